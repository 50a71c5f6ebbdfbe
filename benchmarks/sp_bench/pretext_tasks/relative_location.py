"""Relative location: in which of eight directions a second patch lies from the middle one.

Doersch, Gupta and Efros, Unsupervised Visual Representation Learning by Context Prediction, ICCV
2015 (arXiv 1505.05192), sections 3 and 3.1: nine patches in a grid, half a patch between them,
each jittered by up to 7 pixels of 96. Simplified: the grid fills the method's own view, the
features are the backbone's with a head like SP's, and nothing is done against chromatic aberration
but what the method does to its views.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_bench.pretext_tasks.answers import answered
from sp_plugin import SpatialPrediction, SPOutput
from sp_plugin.config import ResolvedConfig
from sp_plugin.crops.sampler import CropSampler, rand_cpu
from sp_plugin.isolation import hash_seed, private_rng
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.pair_loss import zero_nonfinite

_JITTER = 7 / 96  # of a patch's side
_SIDE = 1 / (4 + 2 * _JITTER)  # three patches, two gaps of half a patch, jitter at both ends
_STEP = 1.5 * _SIDE
# Row by row, the middle left out.
DIRECTIONS = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if (x, y) != (0, 0)]


class GridSampler(CropSampler):
    """The middle patch of a 3 x 3 grid and one of the eight about it.

    >>> a, b = GridSampler()(4, torch.Generator().manual_seed(0))
    >>> bool(((b - a)[:, :2].abs().amax(dim=1) > 0.3).all())
    True
    """

    def __init__(self) -> None:
        super().__init__(num_crops=2)

    def draw_uniform(self, n: int, generator: torch.Generator) -> Any:
        """(5, n): which direction, and the jitter of both patches."""
        return rand_cpu(5, n, generator=generator)

    def to_boxes(self, numbers: Any, progress: float | Tensor = 1.0) -> Tensor:
        """The boxes (2, n, 4) that the numbers decide."""
        steps = torch.tensor(DIRECTIONS, dtype=numbers.dtype)
        away = steps[(numbers[0] * len(DIRECTIONS)).long()] * _STEP
        jitter = (numbers[1:].T.unflatten(1, (2, 2)) * 2 - 1) * _JITTER * _SIDE
        centres = torch.stack([jitter[:, 0], away + jitter[:, 1]]) + 0.5
        return torch.cat([centres, torch.full_like(centres, _SIDE)], dim=-1)


def direction(boxes: Tensor) -> Tensor:
    """Which of ``DIRECTIONS``, (B,), the second box lies in from the first, of boxes (2, B, 4).

    >>> direction(torch.tensor([[[0.5, 0.5, 0.2, 0.2]], [[0.8, 0.5, 0.2, 0.2]]])).tolist()
    [4]
    """
    x, y = ((boxes[1] - boxes[0])[:, :2] / _STEP).round().long().unbind(dim=1)
    cell = (y + 1) * 3 + x + 1
    return cell - (cell > 4).long()  # the middle one is no direction


class RelativeLocation(SpatialPrediction):
    """`SpatialPrediction` that asks for one of eight directions; its loss is cross-entropy.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config, encode: as for SP; how SP's crops are drawn does not apply.
    """

    def __init__(self, feature_dim: int, *given: Any, **more: Any) -> None:
        super().__init__(feature_dim, *given, **more)
        with private_rng(hash_seed(self.config.seed)):
            self.head = SPHead(feature_dim, self.config.hidden_dim, "plain")
            self.head.mlp[-1] = nn.Linear(self.config.hidden_dim, len(DIRECTIONS))
        self.head.requires_grad_(self.config.weight > 0)

    def _settle(self, config: ResolvedConfig) -> None:
        super()._settle(config)
        self.sampler = GridSampler()

    def ask(self, features: Tensor, boxes: Tensor, *_: Any, **when: Any) -> SPOutput:
        """As SP's, for the two patches of each image."""
        asked, usable = zero_nonfinite(features)
        true = direction(boxes)
        with torch.autocast(features.device.type, enabled=False):
            logits = self.head(*asked.float())
            raw = F.cross_entropy(logits, true)
        right = (logits.argmax(dim=1) == true).float().mean().detach()
        return answered(raw, usable, {"accuracy": right}, boxes)
