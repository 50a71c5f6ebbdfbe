"""Pair loss: from the features of an image's crops to SP's loss on pairs of them.

All of it compiles without a graph break; PyTorch 2.5, 2.6 and 2.8 break it once, at the hook on the
features. Nothing in it synchronises the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sp_plugin.objective.head import SPHead
from sp_plugin.objective.loss import SPLoss, r2
from sp_plugin.objective.targets import TargetEncoder, apply_flips
from sp_plugin.structures import SPOutput

__all__ = ["compute_pair_loss", "zero_nonfinite"]

_LARGEST = 1e18  # the head's LayerNorm squares features in float32


def compute_pair_loss(
    features: Tensor,
    boxes: Tensor,
    pairs: Tensor,
    head: SPHead,
    targets: TargetEncoder,
    loss: SPLoss,
    flips: Tensor | None = None,
) -> SPOutput:
    """Predict the geometry of pairs of crops, and compare it with that of their boxes.

    Args:
        features: (k, B, D) of k crops of each image. Where they or the loss are not finite, no
            gradient reaches them.
        boxes: (k, B, 4) of the same crops.
        pairs: (2, P), indices of crops a and b of each pair.
        head: from two features to a prediction.
        targets: from two boxes to the target.
        loss: between the two.
        flips: (k, B, 2), -1 where a view is flipped left to right, top to bottom, else 1, for views
            that the method has flipped on their own; a box of NaN leaves its pairs out. None: no
            view is flipped, and all boxes are known.

    Returns:
        Output with the unweighted loss.
    """
    features, usable = zero_nonfinite(features)
    pair_boxes = boxes[pairs].flatten(1, 2)
    # Half precision ends here: targets reach 3.7, losses are compared across runs.
    with torch.autocast(features.device.type, enabled=False):
        prediction = head.forward_pairs(features.to(head.norm.weight.dtype), pairs).float()
        target, mask = targets.encode(*pair_boxes), None
        if flips is not None:
            pair_flips = flips[pairs].flatten(1, 2)
            target, mask = apply_flips(target, pair_flips, targets.target_encoding)
        unweighted = loss(prediction, target, mask)
    usable = usable & unweighted.isfinite()
    if features.requires_grad:
        features.register_hook(_gate_gradient(usable))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        r2_dx, r2_dy, r2_scale = r2(prediction, target, mask)
        left_out = torch.zeros_like(unweighted) if mask is None else 1 - mask[:, 2].mean()
    metrics = {
        "loss": unweighted.detach(),
        "r2_dx": r2_dx,
        "r2_dy": r2_dy,
        "r2_scale": r2_scale,
        "skipped_fraction": torch.where(usable, left_out, torch.ones_like(unweighted)),
    }
    finite = torch.where(usable, unweighted, torch.zeros_like(unweighted))
    return SPOutput(finite, metrics, pair_boxes, prediction.detach(), target)


def zero_nonfinite(features: Tensor) -> tuple[Tensor, Tensor]:
    """Replace all features by zeros where any of them is not finite.

    0 x inf is NaN, so a weight of 0 is no guard: a value that is not finite must not be multiplied.

    Args:
        features: floating point, any shape.

    Returns:
        Features of the same shape, and a bool scalar: whether they are the given ones.

    >>> features, usable = zero_nonfinite(torch.tensor([1.0, torch.inf]))
    >>> features.tolist(), bool(usable)
    ([0.0, 0.0], False)
    """
    usable = (features.abs() < _LARGEST).all()
    # A look at the value would synchronise a GPU and break a graph: there the gate alone guards.
    can_look = features.device.type == "cpu" and not torch.compiler.is_compiling()
    if can_look and not usable:
        features = features.detach()
    return torch.where(usable, features, torch.zeros_like(features)), usable


def _gate_gradient(usable: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda grad: torch.where(usable, grad, torch.zeros_like(grad))
