"""AugSelf: predicts how the augmentations of the method's own two views differ.

Lee et al., Improving Transferability of Representations via Augmentation-Aware Self-Supervision,
NeurIPS 2021 (arXiv 2111.09613), section 2. An MLP per augmentation predicts the difference of its
parameters from the features of both views: crop and colours by regression (squared error), flip as
a class. Simplified: without grayscale, blur and solarisation, and with weight 1 for every
augmentation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_bench.pretext_tasks.output import peer_output
from sp_plugin import SpatialPrediction, SPOutput
from sp_plugin.isolation import hash_seed, private_rng
from sp_plugin.objective.pair_loss import zero_nonfinite

_HIDDEN_DIM = 512


class AugSelfHead(nn.ModuleDict):
    """One MLP per augmentation, from the features of two views to a difference of parameters.

    Args:
        feature_dim: width D of the features.
        colour: whether the four strengths of colour jitter are predicted too; default False, since
            no framework records them.
    """

    def __init__(self, feature_dim: int, colour: bool = False) -> None:
        outputs = {"crop": 4, "colour": 4, "flip": 1} if colour else {"crop": 4, "flip": 1}
        super().__init__({name: mlp(2 * feature_dim, size) for name, size in outputs.items()})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Predictions (B, outputs) by augmentation, from the features (2, B, D) of two views."""
        both = torch.cat(list(features), dim=1)
        return {name: head(both).float() for name, head in self.items()}


def augself_loss(predicted: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """Sum of the losses of all augmentations, (B,).

    Args:
        predicted: output of `AugSelfHead`.
        target: differences ``crop`` (B, 4) and, if predicted, ``colour`` (B, 4), and ``flip``
            (B,): 1 if only one of the views is flipped, else 0.
    """
    loss = (predicted["crop"] - target["crop"]).square().mean(dim=1)
    if "colour" in predicted:
        loss = loss + (predicted["colour"] - target["colour"]).square().mean(dim=1)
    flip = predicted["flip"].squeeze(1)
    return loss + F.binary_cross_entropy_with_logits(flip, target["flip"], reduction="none")


class AugSelfCrops(SpatialPrediction):
    """AugSelf on crop and flip of the method's own views, whose features it already has.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config, feature_fn: as for SP; the source is ``host_views``.
    """

    source = "host_views"

    def __init__(self, feature_dim: int, *args: Any, **options: Any) -> None:
        super().__init__(feature_dim, *args, **options)
        with private_rng(hash_seed(self.config.seed)):
            self.head: Any = AugSelfHead(feature_dim)
        self.head.requires_grad_(self.config.weight > 0)

    def pair_loss(
        self, features: Tensor, boxes: Tensor, flips: Tensor | None = None, **keys: Any
    ) -> SPOutput:
        """Loss of the first two views; images with a view of unknown location are left out.

        Args:
            features: (k, B, D), pooled features of k views of each image.
            boxes: (k, B, 4), NaN for a view of unknown location.
            flips: (k, B, 2), -1 for a view that is flipped left to right, top to bottom, else 1.
            **keys: ``step`` and ``rank``, which are not used.
        """
        usable_features, usable = zero_nonfinite(features[:2].float())
        assert flips is not None  # given by the source
        crop, flip, known = differences(boxes, flips)
        with torch.autocast(features.device.type, enabled=False):
            predicted = self.head(usable_features)
            losses = augself_loss(predicted, {"crop": crop, "flip": flip})
        count = known.sum().clamp_min(1)
        is_right = (predicted["flip"].squeeze(1) > 0) == (flip > 0)
        accuracy = (is_right.float() * known).sum() / count
        loss = (losses * known).sum() / count
        return peer_output(loss, usable, {"accuracy": accuracy.detach()}, boxes[:2])


def differences(boxes: Tensor, flips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Targets of AugSelf for the first two views.

    Args:
        boxes: (k, B, 4), NaN for a view of unknown location.
        flips: (k, B, 2), -1 for a view that is flipped left to right, top to bottom, else 1.

    Returns:
        (B, 4), difference of the boxes; (B,), 1 if only one view is flipped left to right, else 0;
        (B,), 1 if both locations are known, else 0.

    >>> boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4]], [[0.25, 0.5, 0.4, 0.2]]])
    >>> crop, flip, known = differences(boxes, torch.tensor([[[1.0, 1.0]], [[-1.0, 1.0]]]))
    >>> crop.tolist(), flip.item(), known.item()
    ([[0.25, 0.0, 0.0, 0.20000000298023224]], 1.0, 1.0)
    """
    crop = boxes[0] - boxes[1]
    known = crop.isfinite().all(dim=1)
    return (
        torch.where(known[:, None], crop, torch.zeros_like(crop)),
        (flips[0, :, 0] != flips[1, :, 0]).to(crop.dtype),
        known.to(crop.dtype),
    )


def mlp(in_features: int, out_features: int) -> nn.Sequential:
    """A peer's head: an MLP with two hidden layers of 512."""
    return nn.Sequential(
        nn.Linear(in_features, _HIDDEN_DIM),
        nn.ReLU(),
        nn.Linear(_HIDDEN_DIM, _HIDDEN_DIM),
        nn.ReLU(),
        nn.Linear(_HIDDEN_DIM, out_features),
    )
