"""SpatialPrediction: the five parts tied together. The only file that an adapter needs.

    images -> PairSampler -> boxes -> crop_resize -> backbone -> SPHead -> SPLoss <- TargetEncoder

Spatial Prediction is the task of arXiv 2605.09963: from one picture take two local views, encode
both, and predict their relative position and scale in a continuous space. Only the abstract of
that paper could be read; what it leaves open is our choice and a setting of `SPConfig`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_plugin.config import Resolved, SPConfig
from sp_plugin.cropping import crop_resize
from sp_plugin.encoding import Call, encode
from sp_plugin.head import SPHead
from sp_plugin.isolation import frozen_statistics, generator_for, key_of, private_rng
from sp_plugin.loss import SPLoss, r2
from sp_plugin.pairs import Pairs
from sp_plugin.probing import fit
from sp_plugin.sampling import PairSampler
from sp_plugin.sharpness import shared_resolution
from sp_plugin.targets import TargetEncoder

_FRAME = 224  # px, where nothing else is known
_LARGEST = 1e18  # the head's LayerNorm squares features in float32


@dataclass
class SPOutput:
    """What one step of SP gives.

    Attributes:
        loss: scalar, weighted, to be added to the host's own; backpropagates into backbone and
            head.
        metrics: detached scalars on the images' device: ``loss`` (not weighted), ``r2_dx``,
            ``r2_dy``, ``r2_scale``, ``weight`` and ``skipped`` (1 where the loss was not finite
            and was left out). R2 of a batch of one is NaN. On a GPU a backbone that overflows
            inside still gets NaN from its own backward pass: looking would make the host wait.
        boxes: (2, B, 4), crops a and b in the images.
        prediction: (B, 3), what the head said: x, y and sigma, in standard deviations.
        target: (B, 3), what it should have said.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    boxes: Tensor
    prediction: Tensor
    target: Tensor


class SpatialPrediction(nn.Module):
    """SP as a module beside a backbone, which it is handed at each call and never holds.

    Its parameters are the head's alone. Creating it draws nothing from the global generators.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config: settings; those left open are resolved for frames of 224 px, until `suit` tells
            better.
        encode: ``encode(backbone, crops)`` for a backbone that calling is not the way to its
            features; see `sp_plugin.encoding.encode`.

    >>> backbone = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU())
    >>> sp = SpatialPrediction(16, config=SPConfig(size=16))
    >>> out = sp(backbone, torch.rand(4, 3, 32, 32), step=0)
    >>> out.loss.backward()
    >>> sorted(out.metrics)
    ['loss', 'r2_dx', 'r2_dy', 'r2_scale', 'skipped', 'weight']
    """

    def __init__(
        self, feature_dim: int, config: SPConfig | None = None, encode: Call | None = None
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.call = encode
        self.given = config or SPConfig()
        self._settle(self.given.resolve(frame=_FRAME))
        self.targets = TargetEncoder(self.sampler, self.config.encoding)
        with private_rng(key_of(self.config.seed)):
            self.head = SPHead(feature_dim, self.config.head_width, self.config.head)
        self.loss = SPLoss(self.config.loss)
        # A head that never counts must not be touched: with a gradient of zeros it would still
        # enter a clipped norm's sum, and move its last bit.
        self.head.requires_grad_(self.config.weight > 0)

    @classmethod
    def from_backbone(
        cls,
        backbone: nn.Module,
        images: Tensor | None = None,
        config: SPConfig | None = None,
        encode: Call | None = None,
    ) -> SpatialPrediction:
        """Find the feature width and the crop size that a backbone takes, and build SP for it.

        Args:
            backbone: takes (B, 3, S, S); left as it was, and SP goes to its device.
            images: (B, 3, H, W) as the backbone is trained on, for their size; None: 224 px, to
                be told later with `suit`.
            config: settings.
            encode: as for the class.

        Raises:
            ConfigError: the backbone takes no crop size that was tried.

        >>> sp = SpatialPrediction.from_backbone(nn.Conv2d(3, 8, 3), torch.rand(2, 3, 64, 64))
        >>> sp.feature_dim, sp.config.size
        (8, 32)
        """
        config = config or SPConfig()
        frame = _FRAME if images is None else min(images.shape[-2:])
        resolved = config.resolve(frame)
        found = fit(backbone, resolved.size, config.pool, config.layer, encode)
        sp = cls(found.width, config, encode)
        sp._suit(dataclasses.replace(resolved, size=found.size))
        return sp.to(next((p.device for p in backbone.parameters()), torch.device("cpu")))

    def suit(self, backbone: nn.Module, frame: int) -> SpatialPrediction:
        """Settle what the settings leave open, for this backbone and frames of ``frame`` pixels.

        Raises:
            ConfigError: the backbone takes no crop size that was tried.
        """
        config = self.given.resolve(frame)
        size = fit(backbone, config.size, config.pool, config.layer, self.call).size
        return self._suit(dataclasses.replace(config, size=size))

    def _suit(self, config: Resolved) -> SpatialPrediction:
        self._settle(config)
        constants = TargetEncoder(self.sampler, config.encoding).scale
        self.targets.scale.copy_(constants)
        return self

    def _settle(self, config: Resolved) -> None:
        self.config = config
        self.sampler = PairSampler(config.area, config.ratio, config.window, config.max_iou)

    def weight(self, progress: float) -> float:
        """Weight of the loss when training has come to ``progress`` in [0, 1].

        >>> sp = SpatialPrediction(8, SPConfig(weight=1, warmup=0.5, decay=0.25))
        >>> [sp.weight(p) for p in (0.0, 0.25, 0.5, 0.875, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
        """
        rise = progress / self.config.warmup if self.config.warmup else 1.0
        fall = (1 - progress) / self.config.decay if self.config.decay else 1.0
        return self.config.weight * max(0.0, min(1.0, rise, fall))

    def draw(self, images: Tensor, generator: torch.Generator, progress: float = 1.0) -> Pairs:
        """Draw one pair of crops for each image, and cut them out.

        Args:
            images: (B, C, H, W).
            generator: on the CPU.
            progress: how far training has come, in [0, 1].

        """
        boxes = torch.stack(self.sampler(len(images), generator, progress))
        frame = boxes.new_tensor([images.shape[-1], images.shape[-2]])
        resolution = None
        if self.config.sharpness == "equal":
            resolution = shared_resolution(boxes[..., 2:] * frame, self.config.size, generator)
            resolution = resolution.to(images.device, non_blocking=True)
        boxes = boxes.to(images.device, non_blocking=True)
        crops = [crop_resize(images.detach(), box, self.config.size, resolution) for box in boxes]
        return Pairs(boxes, torch.cat(crops))

    def forward(
        self,
        backbone: nn.Module,
        images: Tensor | Pairs,
        *,
        step: int,
        rank: int = 0,
        progress: float = 1.0,
    ) -> SPOutput:
        """Ask about one pair of crops in each image.

        Args:
            backbone: the host's student, in the mode it trains in.
            images: (B, 3, H, W), as the backbone takes them (normalised), to draw pairs of crops
                from; or the `Pairs` that were drawn elsewhere, from the original pictures.
            step: counts the calls; with the seed and the rank it decides what is drawn.
            rank: of this process.
            progress: how far training has come, in [0, 1].
        """
        weight = self.weight(progress)
        keys = (self.config.seed, rank, step)
        if not isinstance(images, Pairs):
            images = self.draw(images, generator_for(*keys), progress)
        boxes, crops = images.boxes, self._sized(images.crops)
        with torch.set_grad_enabled(torch.is_grad_enabled() and weight > 0):
            features = self._encode(backbone, crops, key_of(*keys))
        # 0 x inf is NaN, so a weight alone is no guard: what is not finite must not be multiplied.
        usable = (features.abs() < _LARGEST).all()
        if features.device.type == "cpu" and not usable:
            features = features.detach()  # a GPU would have to be waited for, and has the gate only
        features = torch.where(usable, features, torch.zeros_like(features))
        # Half precision ends here: targets reach 3.7, losses are compared across runs.
        with torch.autocast(crops.device.type, enabled=False):
            prediction = self.head(*features.to(self.head.norm.weight.dtype).chunk(2)).float()
            target = self.targets.encode(*boxes)
            raw = self.loss(prediction, target)
        usable = usable & raw.isfinite()
        if features.requires_grad:
            features.register_hook(_only_if(usable))  # type: ignore[no-untyped-call]
        loss = torch.where(usable, raw, torch.zeros_like(raw)) * weight
        with torch.no_grad():
            r2_dx, r2_dy, r2_scale = r2(prediction, target)
        metrics = {
            "loss": raw.detach(),
            "r2_dx": r2_dx,
            "r2_dy": r2_dy,
            "r2_scale": r2_scale,
            "weight": torch.full_like(raw, weight).detach(),
            "skipped": (~usable).to(raw.dtype),
        }
        return SPOutput(loss, metrics, boxes, prediction.detach(), target)

    def _encode(self, backbone: nn.Module, crops: Tensor, seed: int) -> Tensor:
        quiet = contextlib.nullcontext() if self.config.update_bn else frozen_statistics(backbone)
        with private_rng(seed, crops.device), quiet:
            return encode(backbone, crops, self.config.pool, self.config.layer, self.call)

    def _sized(self, crops: Tensor) -> Tensor:
        size = (self.config.size, self.config.size)
        if crops.shape[-2:] == size:  # else: drawn before it was known what the backbone takes
            return crops
        return F.interpolate(crops, size, mode="bilinear", antialias=True)


def _only_if(usable: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda grad: torch.where(usable, grad, torch.zeros_like(grad))
