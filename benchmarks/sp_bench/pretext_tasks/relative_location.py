"""Relative location: predicts in which of eight directions a second patch lies from the centre.

Doersch, Gupta and Efros, Unsupervised Visual Representation Learning by Context Prediction, ICCV
2015 (arXiv 1505.05192), sections 3 and 3.1: nine patches in a grid, with gaps of half a patch, and
jitter of up to 7 pixels of 96 for each patch. Simplified: the grid fills the method's own view, the
head is one like SP's on the backbone's features, and the only measures against chromatic aberration
are the method's augmentations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_bench.pretext_tasks.output import peer_output
from sp_plugin import SpatialPrediction, SPOutput
from sp_plugin.config import ResolvedConfig
from sp_plugin.crops.sampler import CropSampler, rand_cpu
from sp_plugin.isolation import hash_seed, private_rng
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.pair_loss import zero_nonfinite
from sp_plugin.sizes import Size

_JITTER = 7 / 96  # of a patch's side
_SIDE = 1 / (4 + 2 * _JITTER)  # three patches, two gaps of half a patch, jitter at both ends
_STEP = 1.5 * _SIDE
# Row by row, without the centre.
DIRECTIONS = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if (x, y) != (0, 0)]


class GridSampler(CropSampler):
    """Samples the central patch of a 3 x 3 grid and one of the eight around it.

    >>> a, b = GridSampler()(4, torch.Generator().manual_seed(0))
    >>> bool(((b - a)[:, :2].abs().amax(dim=1) > 0.3).all())
    True
    """

    def __init__(self) -> None:
        super().__init__(num_crops=2)

    def draw_uniform(self, n: int, generator: torch.Generator) -> Any:
        """Uniform numbers (5, n) for the direction and the jitter of both patches."""
        return rand_cpu(5, n, generator=generator)

    def to_boxes(
        self, draws: Any, progress: float | Tensor = 1.0, box_ratio: float | None = None
    ) -> Tensor:
        """Boxes (2, n, 4) from uniform numbers, in a grid of the frame's shape."""
        steps = torch.tensor(DIRECTIONS, dtype=draws.dtype)
        offset = steps[(draws[0] * len(DIRECTIONS)).long()] * _STEP
        jitter = (draws[1:].T.unflatten(1, (2, 2)) * 2 - 1) * _JITTER * _SIDE
        centres = torch.stack([jitter[:, 0], offset + jitter[:, 1]]) + 0.5
        return torch.cat([centres, torch.full_like(centres, _SIDE)], dim=-1)


def direction(boxes: Tensor) -> Tensor:
    """Index (B,) into ``DIRECTIONS`` of the second box, seen from the first, for boxes (2, B, 4).

    >>> direction(torch.tensor([[[0.5, 0.5, 0.2, 0.2]], [[0.8, 0.5, 0.2, 0.2]]])).tolist()
    [4]
    """
    x, y = ((boxes[1] - boxes[0])[:, :2] / _STEP).round().long().unbind(dim=1)
    cell = (y + 1) * 3 + x + 1
    return cell - (cell > 4).long()  # the centre is no direction


class RelativeLocation(SpatialPrediction):
    """`SpatialPrediction` that classifies one of eight directions, with cross-entropy loss.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config, feature_fn: as for SP; the settings of crop sampling do not apply.
    """

    def __init__(self, feature_dim: int, *args: Any, **options: Any) -> None:
        super().__init__(feature_dim, *args, **options)
        with private_rng(hash_seed(self.config.seed)):
            self.head = SPHead(feature_dim, self.config.hidden_dim, "plain")
            self.head.mlp[-1] = nn.Linear(self.config.hidden_dim, len(DIRECTIONS))
        self.head.requires_grad_(self.config.weight > 0)

    def _apply_config(self, config: ResolvedConfig, frame: Size | None = None) -> None:
        super()._apply_config(config, frame)
        self.sampler = GridSampler()

    def pair_loss(self, features: Tensor, boxes: Tensor, *_: Any, **keys: Any) -> SPOutput:
        """Loss of the two patches of each image.

        Args:
            features: (2, B, D), pooled features.
            boxes: (2, B, 4), boxes of the patches.
            **keys: ``step`` and ``rank``, which are not used.
        """
        usable_features, usable = zero_nonfinite(features)
        target = direction(boxes)
        with torch.autocast(features.device.type, enabled=False):
            logits = self.head(*usable_features.float())
            loss = F.cross_entropy(logits, target)
        accuracy = (logits.argmax(dim=1) == target).float().mean().detach()
        return peer_output(loss, usable, {"accuracy": accuracy}, boxes)
