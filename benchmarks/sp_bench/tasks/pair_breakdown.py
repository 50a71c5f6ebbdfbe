"""Gain of the pair task by subsets: distance, overlap and size ratio of the crops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sp_bench.tasks.pair_sampling import SampledCrops
from sp_plugin.crops.boxes import paired_iou
from sp_plugin.objective.loss import r2

SUBSETS = {
    "near": "near pairs",
    "middle": "pairs of middle distance",
    "far": "far pairs",
    "apart": "pairs that do not overlap",
    "overlap": "pairs that overlap",
    "alike": "pairs alike in size",
    "unlike": "pairs unlike in size",
}
_MIN_PAIRS = 20  # R2 of fewer pairs means nothing


def find_subsets(crops: SampledCrops) -> dict[str, Tensor]:
    """Membership of each pair in each subset.

    Thirds by the distance of the centers in the image; by whether the crops overlap; halves by
    the size ratio, in either direction.

    Args:
        crops: n pairs.

    Returns:
        (n,) bool for each of ``SUBSETS``.
    """
    dx, dy, sigma = crops.targets.unbind(dim=1)
    distance, ratio = torch.hypot(dx, dy), sigma.abs()
    low, high = torch.quantile(distance, torch.tensor([1 / 3, 2 / 3]))
    overlap = paired_iou(*crops.boxes) > 0
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


def gains_by_subset(
    subsets: dict[str, Tensor], both: Tensor, ones: Sequence[Tensor], target: Tensor
) -> dict[str, tuple[float, float]]:
    """Gain over one view in R2 by subset: of the shift (mean of dx and dy) and of the scale.

    R2 is relative to the mean of the subset, so the subsets do not add up to the whole: a subset
    in which the scale hardly varies has a low R2 of the scale.

    Args:
        subsets: (n,) bool for each subset.
        both: (n, 3), predictions from both views.
        ones: (n, 3) each, predictions from either view alone.
        target: (n, 3).

    Returns:
        Shift and scale for each subset; 0 for a subset of fewer than 20 pairs.
    """
    gains = {}
    for name, rows in subsets.items():
        if int(rows.sum()) < _MIN_PAIRS:
            gains[name] = (0.0, 0.0)
            continue
        best = torch.stack([r2(one[rows], target[rows]) for one in ones]).amax(dim=0)
        gain = r2(both[rows], target[rows]) - best
        gains[name] = (float(gain[:2].mean()), float(gain[2]))
    return gains
