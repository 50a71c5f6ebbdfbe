"""From the features of an image's crops to SP's loss: what the head says of each pair of them.

All of it compiles without a graph break, and nothing in it makes a GPU's host wait.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sp_plugin.objective.flips import apply_flips
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.loss import SPLoss, r2
from sp_plugin.objective.targets import TargetEncoder

_LARGEST = 1e18  # the head's LayerNorm squares features in float32


@dataclass
class SPOutput:
    """What one step of SP gives, for P pairs of crops in each of B images.

    Attributes:
        loss: scalar, weighted, to be added to the host's own; backpropagates into backbone and
            head.
        metrics: detached scalars on the images' device: ``loss`` (not weighted), ``r2_dx``,
            ``r2_dy``, ``r2_scale``, ``weight`` (what the loss was multiplied by) and ``skipped``
            (share of pairs left out: 1 where the loss was not finite). R2 of a single pair is
            NaN. On a GPU a backbone that overflows inside still gets NaN from its own backward
            pass: looking would make the host wait.
        boxes: (2, PB, 4), crops a and b in the images; the first B are of the first pair.
        prediction: (PB, 3), what the head said: x, y and sigma, in standard deviations.
        target: (PB, 3), what it should have said.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    boxes: Tensor
    prediction: Tensor
    target: Tensor

    def scaled(self, weight: float | Tensor) -> SPOutput:
        """The same with its loss multiplied by ``weight``, which the metrics tell."""
        # A product, not a fill: a graph would be made anew for each value that it fills in.
        told = torch.ones_like(self.loss).detach() * weight
        return dataclasses.replace(
            self, loss=self.loss * weight, metrics={**self.metrics, "weight": told}
        )

    def loggable_metrics(self) -> dict[str, Tensor]:
        """The metrics as a log averages them: a NaN would spoil the mean of an epoch.

        A single pair has no R2, and none is given. Of views that are flipped at random hardly a
        pair may count: an R2 of NaN tells nothing, as 0 does.
        """
        several = len(self.target) > 1
        return {
            name: figure.nan_to_num(0.0) if name.startswith("r2") else figure
            for name, figure in self.metrics.items()
            if several or not name.startswith("r2")
        }


def compute_pair_loss(
    features: Tensor,
    boxes: Tensor,
    pairs: Tensor,
    head: SPHead,
    targets: TargetEncoder,
    loss: SPLoss,
    flips: Tensor | None = None,
) -> SPOutput:
    """Ask the head about pairs of crops, and hold its answers against where the crops lie.

    Args:
        features: (k, B, D) of k crops of each image. Where they or the loss are not finite,
            no gradient reaches them.
        boxes: (k, B, 4), of the same crops.
        pairs: (2, P), which crops are a and b of each pair.
        head: from two features to a prediction.
        targets: from two boxes to what it should be.
        loss: between the two.
        flips: (k, B, 2), -1 where a crop is seen mirrored left to right, top to bottom, else 1:
            of views that the host has flipped, each apart; a box of NaN leaves its pairs out.
            None: all are seen straight, and all boxes are known.
    """
    features, usable = zero_nonfinite(features)
    asked = boxes[pairs].flatten(1, 2)
    # Half precision ends here: targets reach 3.7, losses are compared across runs.
    with torch.autocast(features.device.type, enabled=False):
        prediction = head.forward_pairs(features.to(head.norm.weight.dtype), pairs).float()
        target, counts = targets.encode(*asked), None
        if flips is not None:
            target, counts = apply_flips(target, flips[pairs].flatten(1, 2), targets.encoding)
        raw = loss(prediction, target, counts)
    usable = usable & raw.isfinite()
    if features.requires_grad:
        features.register_hook(_gate_gradient(usable))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        r2_dx, r2_dy, r2_scale = r2(prediction, target, counts)
        left_out = torch.zeros_like(raw) if counts is None else 1 - counts[:, 2].mean()
    metrics = {
        "loss": raw.detach(),
        "r2_dx": r2_dx,
        "r2_dy": r2_dy,
        "r2_scale": r2_scale,
        "skipped_fraction": torch.where(usable, left_out, torch.ones_like(raw)),
    }
    kept = torch.where(usable, raw, torch.zeros_like(raw))
    return SPOutput(kept, metrics, asked, prediction.detach(), target)


def zero_nonfinite(features: Tensor) -> tuple[Tensor, Tensor]:
    """The features, or zeros in place of all of them where one is not finite; and which it is.

    0 x inf is NaN, so a weight alone is no guard: what is not finite must not be multiplied.

    >>> told, usable = guarded(torch.tensor([1.0, torch.inf]))
    >>> told.tolist(), bool(usable)
    ([0.0, 0.0], False)
    """
    usable = (features.abs() < _LARGEST).all()
    # A GPU would have to be waited for, and a graph cannot look: they have the gate only.
    can_look = features.device.type == "cpu" and not torch.compiler.is_compiling()
    if can_look and not usable:
        features = features.detach()
    return torch.where(usable, features, torch.zeros_like(features)), usable


def _gate_gradient(usable: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda grad: torch.where(usable, grad, torch.zeros_like(grad))
