"""AugSelf: how the crops of the method's own two views differ, and whether their flips do.

Lee et al., Improving Transferability of Representations via Augmentation-Aware Self-Supervision,
NeurIPS 2021 (arXiv 2111.09613), section 2. Simplified: crop and flip only, not the colours, which
no framework records; both with weight 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_bench.pretext_tasks.answers import answered
from sp_bench.speed.peers import mlp
from sp_plugin import SpatialPrediction, SPOutput
from sp_plugin.isolation import hash_seed, private_rng
from sp_plugin.objective.pair_loss import zero_nonfinite


class AugSelfCrops(SpatialPrediction):
    """`SpatialPrediction` that asks about the method's own views, which it has encoded already.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config, encode: as for SP; the source is ``host``.
    """

    source = "host"

    def __init__(self, feature_dim: int, *given: Any, **more: Any) -> None:
        super().__init__(feature_dim, *given, **more)
        with private_rng(hash_seed(self.config.seed)):
            self.head: Any = nn.ModuleDict(
                {"crop": mlp(feature_dim, 4, copies=2), "flip": mlp(feature_dim, 1, copies=2)}
            )
        self.head.requires_grad_(self.config.weight > 0)

    def ask(
        self, features: Tensor, boxes: Tensor, flips: Tensor | None = None, **when: Any
    ) -> SPOutput:
        """As SP's, for the first two of the views; one that cannot be followed does not count."""
        asked, usable = zero_nonfinite(features[:2].float())
        assert flips is not None  # what the source gives
        crop, flip, known = differences(boxes, flips)
        both = torch.cat(list(asked), dim=1)
        with torch.autocast(features.device.type, enabled=False):
            off = (self.head["crop"](both) - crop).square().mean(dim=1)
            turned = self.head["flip"](both).squeeze(1)
            unlike = F.binary_cross_entropy_with_logits(turned, flip, reduction="none")
            raw = ((off + unlike) * known).sum() / known.sum().clamp_min(1)
        right = (((turned > 0) == (flip > 0)).float() * known).sum() / known.sum().clamp_min(1)
        return answered(raw, usable, {"accuracy": right.detach()}, boxes[:2])


def differences(boxes: Tensor, flips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """AugSelf's targets of the first two views.

    Args:
        boxes: (k, B, 4), NaN where a view cannot be followed.
        flips: (k, B, 2), -1 where a view is mirrored left to right, top to bottom, else 1.

    Returns:
        (B, 4), box less box; (B,), 1 where one view alone is mirrored left to right, else 0; (B,),
        1 where both views are known, else 0.

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
