"""The pair task's gain part by part: near and far, overlapping or not, alike in size or not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sp_bench.tasks.pair_sampling import Draws
from sp_plugin.crops.boxes import paired_iou
from sp_plugin.objective.loss import r2

PARTS = {
    "near": "near pairs",
    "middle": "pairs of middle distance",
    "far": "far pairs",
    "apart": "pairs that do not overlap",
    "overlap": "pairs that overlap",
    "alike": "pairs alike in size",
    "unlike": "pairs unlike in size",
}
_LEAST = 20  # pairs: of fewer, R2 tells nothing


def parts_of(draws: Draws) -> dict[str, Tensor]:
    """Which pairs are of each part.

    Thirds by the distance of centres in the image; by whether the crops overlap; and halves by
    how much larger one is, whichever it is.

    Returns:
        (n,) bool for each of ``PARTS``.
    """
    dx, dy, sigma = draws.targets.unbind(dim=1)
    distance, ratio = torch.hypot(dx, dy), sigma.abs()
    low, high = torch.quantile(distance, torch.tensor([1 / 3, 2 / 3]))
    overlap = paired_iou(*draws.boxes) > 0
    unlike = ratio > ratio.median()
    return {
        "near": distance <= low,
        "middle": (distance > low) & (distance <= high),
        "far": distance > high,
        "apart": ~overlap,
        "overlap": overlap,
        "alike": ~unlike,
        "unlike": unlike,
    }


def gains_by_part(
    parts: dict[str, Tensor], both: Tensor, ones: Sequence[Tensor], truth: Tensor
) -> dict[str, tuple[float, float]]:
    """Gain over one view in R2, of the shift (mean of dx and dy) and of scale, in each part.

    R2 is against the part's own mean, so parts do not add up to the whole: where scale hardly
    varies there is little of it to tell.

    Args:
        parts: (n,) bool for each part.
        both: (n, 3), predicted from both views.
        ones: (n, 3), predicted from either view alone.
        truth: (n, 3).

    Returns:
        Shift and scale for each part; 0 for a part of fewer than 20 pairs.
    """
    gains = {}
    for name, rows in parts.items():
        if int(rows.sum()) < _LEAST:
            gains[name] = (0.0, 0.0)
            continue
        best = torch.stack([r2(one[rows], truth[rows]) for one in ones]).amax(dim=0)
        gain = r2(both[rows], truth[rows]) - best
        gains[name] = (float(gain[:2].mean()), float(gain[2]))
    return gains
