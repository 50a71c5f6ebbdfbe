"""SpatialProbe: how much of *where* a training learns, measured while it runs, unchanged by it.

A part of some batches is cut into SP's crops, which the student encodes without a graph. Two small
heads with an optimizer of their own learn from these features to predict how the crops of an image
lie to each other: one sees both crops of a pair, the other one crop alone. What the first explains
more than the second is what the features say of the relation between two places.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sp_plugin.config import SPConfig
from sp_plugin.distributed import process_rank
from sp_plugin.features.backbone_call import FeatureFn
from sp_plugin.features.collapse import feature_std, rankme
from sp_plugin.features.input_size import input_channels
from sp_plugin.isolation import hash_seed, make_generator, private_rng
from sp_plugin.objective.pairs import sample_pairs
from sp_plugin.objective.probe_heads import ProbeHeads
from sp_plugin.sizes import to_size
from sp_plugin.spatial_prediction import SpatialPrediction
from sp_plugin.validation import integer, number
from sp_plugin.view_search import find_view

__all__ = ["SpatialProbe"]

_NUM_CROPS = 4
_BUFFER_IMAGES = 128  # 512 crops
_DECAY = 0.98  # of the sums, for each measurement
_LEARNING_RATE, _WEIGHT_DECAY = 3e-3, 0.1
_DRAWS, _HEADS = 3, 4  # separate its draws from those of SP
_LARGEST = 1e15  # of a feature, so that sums of squares are finite
_EPS = 1e-12


class SpatialProbe:
    """Measures in a training run what the student's features say of where crops lie.

    It changes nothing of the run: neither weights nor gradients, optimizer, random generators or
    running statistics. It is no module and has no parameters of the method's.

    Args:
        backbone: student; its features are those before the projector.
        config: settings of the crops and features as of SP's own (`SPConfig`: ``view``,
            ``crop_size``, ``pool``, ``layer``, ``seed`` ...), so that runs with and without SP are
            measured by the same crops. The crops are those of ``source="view"``.
        feature_fn: ``feature_fn(backbone, crops)`` for a backbone whose features are not what
            calling it gives.
        fraction: share of the batch's images that it uses, in (0, 1], at least two images.
        every: it acts in each so many-th call, from the first one on.

    Attributes:
        backbone: student; may be replaced by a wrapped one.
        step: number of calls so far.

    Raises:
        ConfigError: a bad setting, or a backbone that takes no crop size that was tried.

    >>> backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> probe = SpatialProbe(backbone, every=1)
    >>> for _ in range(3):
    ...     probe(torch.rand(8, 3, 32, 32))  # next to any training step
    >>> sorted(probe.metrics())[:2]
    ['spatial_probe_feature_std', 'spatial_probe_r2_dx']
    """

    def __init__(
        self,
        backbone: nn.Module,
        config: SPConfig | Mapping[str, Any] | None = None,
        *,
        feature_fn: FeatureFn | None = None,
        fraction: float = 1 / 8,
        every: int = 4,
    ) -> None:
        expected = "a share of the batch's images in (0, 1]"
        self.fraction = number(1e-9, 1, expected)("fraction", fraction)
        self.every = integer(1, "a whole number of steps from 1 up")("every", every)
        self.backbone = backbone
        self.step = 0
        config = _probe_config(SPConfig.from_dict(config))
        self._sp = SpatialPrediction.from_backbone(backbone, None, config, feature_fn)
        self._channels = self._sp.channels or input_channels(backbone)
        self._is_configured = False
        with torch.device("cpu"):  # until it follows the backbone
            with private_rng(hash_seed(config.seed, _HEADS)):
                self._heads = ProbeHeads(self._sp.feature_dim)
            # Sums of squared errors, see `ProbeHeads`; and the newest features.
            self._sums = torch.zeros(4, 3)
            self._features = torch.zeros(_NUM_CROPS, _BUFFER_IMAGES, self._sp.feature_dim)
            self._known = torch.zeros(1, _BUFFER_IMAGES, 1)
        self._optimizer = torch.optim.AdamW(
            self._heads.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )

    def __call__(self, batch: Any, *, progress: float = 1.0) -> None:
        """Count a training step and, in every so many-th, measure and train the heads.

        Args:
            batch: the method's batch on its device: a view (B, C, H, W), or any nesting of views.
            progress: progress of training in [0, 1], for crops whose settings follow it.

        Raises:
            ConfigError: a batch without views, or crops on which the backbone fails.
        """
        step, self.step = self.step, self.step + 1
        if step % self.every:
            return
        view = find_view(batch, self._sp.config.view, self._channels).images
        if not self._is_configured:
            self._sp.configure_for(self.backbone, to_size(*view.shape[-2:]), view.shape[1])
            self._is_configured = True
        key = (self._sp.config.seed, process_rank(), step, _DRAWS)
        with torch.no_grad():
            images = _spread(view, self.fraction)
            crops = self._sp.sample_crops(images, make_generator(*key), progress)
            encoded = self._sp.encode_crops(self.backbone, crops, hash_seed(*key), False)
        with torch.autocast(view.device.type, enabled=False):
            self._learn(encoded.features.float(), encoded.boxes)

    def metrics(self) -> dict[str, Tensor]:
        """Detached scalars, which are computed now, from the device; none before the first call.

        - ``spatial_probe_r2_dx``, ``..._dy``, ``..._scale``: R2 of the head of both crops less that
          of one crop alone (the better of the two), each at least 0; of features that the heads
          had not seen. A mean over the last measurements, the newer the more weight.
        - ``spatial_probe_rankme``: RankMe of the newest 512 crops at most, by which it is bounded.
        - ``spatial_probe_feature_std``: spread of the same crops' features, 1 / sqrt(D) at most.
        """
        if not self.step:
            return {}
        total, *errors = self._sums
        # Without a sum: 0. A head that is worse than the mean knows nothing.
        pair, a, b = ((1 - e / total.clamp_min(1e-12)).clamp(0, 1) * (total > 0) for e in errors)
        rows = self._features[:, self._known.flatten() > 0].flatten(0, 1)
        values = (*(pair - torch.maximum(a, b)).unbind(), rankme(rows), feature_std(rows))
        names = ("r2_dx", "r2_dy", "r2_scale", "rankme", "feature_std")
        return {f"spatial_probe_{name}": v for name, v in zip(names, values, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """State to resume from: heads, their optimizer, sums, newest features, number of steps."""
        return {
            "step": self.step,
            "heads": self._heads.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "sums": self._sums,
            "features": self._features,
            "known": self._known,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        self.step = state["step"]
        self._heads.load_state_dict(state["heads"])
        self._optimizer.load_state_dict(state["optimizer"])
        for name in ("sums", "features", "known"):
            setattr(self, f"_{name}", state[name].to(self._sums.device))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "backbone": None}  # a copy belongs to no backbone

    def _learn(self, features: Tensor, boxes: Tensor) -> None:
        """Measure the heads on new features (k, n, D) of boxes (k, n, 4), then train them."""
        self._move_to(features.device)
        # No step reads a value: an image whose features are not finite counts as unknown.
        known = (features.abs() < _LARGEST).all(dim=2, keepdim=True).all(dim=0, keepdim=True)
        features = torch.where(known, features, torch.zeros_like(features))
        self._features = torch.cat([features, self._features], dim=1)[:, :_BUFFER_IMAGES]
        self._known = torch.cat([known.float(), self._known], dim=1)[:, :_BUFFER_IMAGES]
        with torch.enable_grad():
            errors = self._squared_errors(features, boxes, known.flatten())
            loss = errors[1:].sum() / known.sum().clamp_min(1)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        self._sums = _DECAY * self._sums + errors.detach()
        self._optimizer.step()

    def _squared_errors(self, features: Tensor, boxes: Tensor, known: Tensor) -> Tensor:
        """As of `ProbeHeads`, of features that are standardised by those of the newest crops."""
        weights = self._known / (_NUM_CROPS * self._known.sum()).clamp_min(1)
        mean = (self._features * weights).sum(dim=(0, 1))
        variance = ((self._features - mean).square() * weights).sum(dim=(0, 1))
        standardized = (features - mean) / (variance + _EPS).sqrt()
        pairs = sample_pairs(_NUM_CROPS).to(boxes.device, non_blocking=True)
        target = self._sp.targets.encode(*boxes[pairs].flatten(1, 2))
        return self._heads.squared_errors(standardized, pairs, target, known)

    def _move_to(self, device: torch.device) -> None:
        """Follow the backbone to its device."""
        if self._sums.device == device:
            return
        self._heads.to(device)
        self._sp.to(device)
        self._optimizer.load_state_dict(self._optimizer.state_dict())  # moves its state
        for name in ("sums", "features", "known"):
            setattr(self, f"_{name}", getattr(self, f"_{name}").to(device))


def _probe_config(config: SPConfig) -> SPConfig:
    """Settings of crops and features as they are; the rest as the probe needs it."""
    return dataclasses.replace(
        config,
        weight=1.0,
        source="view",
        num_crops=_NUM_CROPS,
        num_pairs="all",
        sharpness="equal",
        target_encoding="symmetric",
        head=None,
        hidden_dim=1,  # SP's own head is not used
        update_bn=False,
    )


def _spread(view: Tensor, fraction: float) -> Tensor:
    """A share of a view's images, spread over the batch; at least two."""
    count = min(len(view), max(2, math.ceil(len(view) * fraction)))
    return view[:: max(1, len(view) // max(1, count))][:count]
