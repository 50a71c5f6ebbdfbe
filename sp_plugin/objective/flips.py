"""Targets of views that the host has flipped, each apart.

A mirrored view shows its part of the image from the other side, and its features know nothing
of it. The law: mirror both views of a pair and dx changes its sign; dy and sigma stay. Where one
view alone is mirrored, "right of a" means the opposite to b, and no antisymmetric dx says both: it
does not count in that pair. The encoding ``anchor`` is measured in a's own frame and has a's sign,
whatever b's is. The same holds for dy and views turned upside down.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sp_plugin.objective.targets import MIN_STD, unnormalized_targets
from sp_plugin.validation import ConfigError

_ROLLS = 16


def apply_flips(target: Tensor, flips: Tensor, encoding: str) -> tuple[Tensor, Tensor]:
    """Targets as the views show them, and what of each counts.

    Args:
        target: (P, 3) of pairs of boxes in the image as it is; NaN where a box is not known.
        flips: (2, P, 2), of views a and b: -1 where one is mirrored left to right, top to bottom,
            else 1.
        encoding: as in `sp_plugin.objective.targets`.

    Returns:
        Targets (P, 3), finite; and (P, 3), 1 where a number counts and 0 where it does not.

    >>> target = torch.tensor([[2.0, 1.0, 0.5]])
    >>> mirrored, straight = torch.tensor([[-1.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    >>> apply_flips(target, torch.stack([mirrored, mirrored]), "symmetric")[0].tolist()
    [[-2.0, 1.0, 0.5]]
    >>> apply_flips(target, torch.stack([mirrored, straight]), "symmetric")[1].tolist()
    [[0.0, 1.0, 1.0]]
    """
    of_a, of_b = flips.unbind()
    signs = torch.cat([of_a, torch.ones_like(of_a[:, :1])], dim=1)
    known = target.isfinite().all(dim=1, keepdim=True)
    counts = known.expand_as(target)
    if encoding != "anchor":
        same = torch.cat([of_a == of_b, torch.ones_like(known)], dim=1)
        counts = counts & same
    seen = torch.where(known, target * signs, torch.zeros_like(target))
    return seen, counts.to(target.dtype)


def target_std_of_views(boxes: Tensor, encoding: str) -> Tensor:
    """Standard deviations of the targets between a host's views, for `TargetEncoder`.

    Views of different runs are as independent as those of one: each is paired with several.

    Args:
        boxes: (n, k, 4), k views in each of n runs of the host's transform; NaN is left out.
        encoding: as in `sp_plugin.objective.targets`.

    Returns:
        (3,).

    Raises:
        ConfigError: all views show the same part of their image, or none has a box.
    """
    first, second = torch.triu_indices(boxes.shape[1], boxes.shape[1], offset=1)
    raw = [
        unnormalized_targets(boxes[:, first], boxes.roll(n, 0)[:, second], encoding)
        for n in range(_ROLLS)
    ]
    told = torch.stack(raw).flatten(0, -2)
    spread = told[told.isfinite().all(dim=1)].std(dim=0)
    if not (spread > MIN_STD).any():
        raise ConfigError(
            "source: got 'host_views', but all views show the same part of their image; "
            "take 'view' or 'image' with this host"
        )
    return spread
