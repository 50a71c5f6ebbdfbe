"""SpatialPrediction: the five parts tied together. The only file that an adapter needs.

    images -> CropSampler -> boxes -> crop_resize -> backbone -> SPHead -> SPLoss <- TargetEncoder

Spatial Prediction is the task of arXiv 2605.09963: from one image take two local views, encode
both, and predict their relative position and scale in a continuous space. Only the abstract of
that paper could be read; what it leaves open is our choice and a setting of `SPConfig`.

What compiles (`torch.compile`, without a graph break): `CropSampler.boxes`, `shared_resolution`,
`crop_resize`, and `pair_loss.compute_pair_loss`, which is all from features to the loss; with all pairs also
`SpatialPrediction.ask`. What stays eager: the private generators and what is drawn from them,
and the guards round the backbone (`sp_plugin.isolation`). ``torch.compile(sp)`` breaks there alone.
"""

from __future__ import annotations

import contextlib
import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_plugin.config import ResolvedConfig, SPConfig
from sp_plugin.features.extraction import FeatureFn, extract_features
from sp_plugin.features.input_size import find_input_size
from sp_plugin.gradient_balance import GradientBalance, is_measurement_step
from sp_plugin.isolation import frozen_running_stats, hash_seed, make_generator, private_rng
from sp_plugin.objective.flips import target_std_of_views
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.loss import SPLoss
from sp_plugin.objective.pair_loss import SPOutput, compute_pair_loss
from sp_plugin.objective.pairs import sample_pairs
from sp_plugin.objective.targets import TargetEncoder
from sp_plugin.structures import Crops
from sp_plugin.views.capture import EncodedViews

_FRAME = 224  # px, where nothing else is known
_PAIRS = 1  # keeps the draw of pairs apart from that of boxes


class SpatialPrediction(nn.Module):
    """SP as a module beside a backbone, which it is handed at each call and never holds.

    Its parameters are the head's alone. Creating it draws nothing from the global generators.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config: settings; those left open are resolved for frames of 224 px, until `suit` tells
            better.
        feature_fn: ``feature_fn(backbone, crops)`` for a backbone that calling is not the way to its
            features; see `sp_plugin.features.extraction.encode`.

    >>> backbone = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU())
    >>> sp = SpatialPrediction(16, config=SPConfig(size=16))
    >>> images = torch.rand(4, 3, 32, 32)
    >>> out = sp(backbone, images, step=0)
    >>> (backbone(images).square().mean() + out.loss).backward()
    >>> sorted(out.metrics)
    ['loss', 'r2_dx', 'r2_dy', 'r2_scale', 'skipped', 'weight']
    """

    def __init__(
        self,
        feature_dim: int,
        config: SPConfig | None = None,
        feature_fn: FeatureFn | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.feature_fn = feature_fn
        self.user_config = config or SPConfig()
        self._settle(self.user_config.resolve(frame=_FRAME))
        self.targets = TargetEncoder(self.sampler, self.config.target_encoding)
        with private_rng(hash_seed(self.config.seed)):
            self.head = SPHead(feature_dim, self.config.hidden_dim, self.config.head)
        self.loss = SPLoss(self.config.loss)
        self.balance = GradientBalance()
        # A head that never counts must not be touched: with a gradient of zeros it would still
        # enter a clipped norm's sum, and move its last bit.
        self.head.requires_grad_(self.config.weight > 0)

    @classmethod
    def from_backbone(
        cls,
        backbone: nn.Module,
        images: Tensor | None = None,
        config: SPConfig | None = None,
        feature_fn: FeatureFn | None = None,
    ) -> SpatialPrediction:
        """Find the feature width and the crop size that a backbone takes, and build SP for it.

        Args:
            backbone: takes (B, 3, S, S); left as it was, and SP goes to its device.
            images: (B, 3, H, W) as the backbone is trained on, for their size; None: 224 px, to
                be told later with `suit`.
            config: settings.
            feature_fn: as for the class.

        Raises:
            ConfigError: the backbone takes no crop size that was tried.

        >>> sp = SpatialPrediction.from_backbone(nn.Conv2d(3, 8, 3), torch.rand(2, 3, 64, 64))
        >>> sp.feature_dim, sp.config.crop_size
        (8, 32)
        """
        config = config or SPConfig()
        frame = _FRAME if images is None else min(images.shape[-2:])
        resolved = config.resolve(frame)
        found = find_input_size(backbone, resolved.crop_size, config.pool, config.layer, feature_fn)
        sp = cls(found.feature_dim, config, feature_fn)
        sp._suit(dataclasses.replace(resolved, crop_size=found.input_size))
        return sp.to(next((p.device for p in backbone.parameters()), torch.device("cpu")))

    def configure_for(self, backbone: nn.Module, frame: int) -> SpatialPrediction:
        """Settle what the settings leave open, for this backbone and frames of ``frame`` pixels.

        Raises:
            ConfigError: the backbone takes no crop size that was tried.
        """
        config = self.user_config.resolve(frame)
        size = find_input_size(
            backbone, config.crop_size, config.pool, config.layer, self.feature_fn
        ).input_size
        return self._suit(dataclasses.replace(config, crop_size=size))

    def _suit(self, config: ResolvedConfig) -> SpatialPrediction:
        self._settle(config)
        constants = TargetEncoder(self.sampler, config.target_encoding).std
        self.targets.std.copy_(constants)
        return self

    def _settle(self, config: ResolvedConfig) -> None:
        self.config = config
        self.sampler = config.build_sampler()

    def calibrate_targets(self, boxes: Tensor) -> SpatialPrediction:
        """Take the measure of targets from a host's own views, to be asked about them.

        Args:
            boxes: (n, k, 4), k views in each of n runs of the host's transform, such as
                `sp_plugin.views.transform.ViewBoxTransform.sample_boxes` gives; NaN is left out.
        """
        self.targets.set_std(target_std_of_views(boxes, self.config.target_encoding))
        return self

    def weight(self, progress: float) -> float:
        """The weight when training has come to ``progress`` in [0, 1].

        >>> sp = SpatialPrediction(8, SPConfig(weight=1, warmup=0.5, decay=0.25))
        >>> [sp.weight(p) for p in (0.0, 0.25, 0.5, 0.875, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
        """
        rise = progress / self.config.warmup_fraction if self.config.warmup_fraction else 1.0
        fall = (
            (1 - progress) / self.config.cooldown_fraction if self.config.cooldown_fraction else 1.0
        )
        return self.config.weight * max(0.0, min(1.0, rise, fall))

    def sample_crops(
        self, images: Tensor, generator: torch.Generator, progress: float = 1.0
    ) -> Crops:
        """Draw the crops of each image, and cut them out.

        Args:
            images: (B, C, H, W).
            generator: on the CPU.
            progress: how far training has come, in [0, 1].
        """
        equal = self.config.sharpness == "equal"
        return Crops.sample(images, self.sampler, self.config.crop_size, generator, progress, equal)

    def forward(
        self,
        backbone: nn.Module,
        images: Tensor | Crops | EncodedViews,
        *,
        step: int,
        rank: int = 0,
        progress: float = 1.0,
    ) -> SPOutput:
        """Encode the crops of each image, and ask about pairs of them.

        Args:
            backbone: the host's student, in the mode it trains in; it is called once.
            images: (B, 3, H, W), as the backbone takes them (normalised), to draw crops from; or
                the `Crops` that were drawn elsewhere, from the original images; or views that
                the host has `EncodedViews` itself, and then the backbone is not called.
            step: counts the calls; with the seed and the rank it decides what is drawn.
            rank: of this process.
            progress: how far training has come, in [0, 1].

        Raises:
            ConfigError: the weight is relative, and the backbone gives no gradient by itself.
        """
        weight = self.weight(progress)
        relative = (
            self.config.relative_weight and self.config.weight > 0 and torch.is_grad_enabled()
        )
        measuring = relative and is_measurement_step(step)
        on_graph = weight > 0 or measuring
        if isinstance(images, EncodedViews):
            features, boxes, flips = images
            features = features if on_graph else features.detach()
        else:
            features, boxes = self._encoded(backbone, images, on_graph, (rank, step), progress)
            flips = None
        out = self.pair_loss(features, boxes, flips, step=step, rank=rank)
        if measuring:
            keep = isinstance(images, EncodedViews)
            none = self.balance.measure(out.loss, backbone, self.head, keep)
            return dataclasses.replace(out.scaled(0.0), loss=none)
        return out.scaled(weight * self.balance.loss_scale(step) if relative else weight)

    def pair_loss(
        self,
        features: Tensor,
        boxes: Tensor,
        flips: Tensor | None = None,
        *,
        step: int,
        rank: int = 0,
    ) -> SPOutput:
        """Ask about pairs of crops whose features there are; the loss is not weighted.

        Args:
            features: (k, B, D), pooled, of k crops of each image.
            boxes: (k, B, 4), where the crops lie in a frame that those of an image share.
            flips: (k, B, 2), of crops that were mirrored each apart; see `pair_loss.compute_pair_loss`.
            step, rank: as for `forward`.

        >>> sp = SpatialPrediction(16, SPConfig(pairs=2, crops=3))
        >>> boxes = sp.sampler(5, torch.Generator().manual_seed(0))
        >>> sp.pair_loss(torch.randn(3, 5, 16), boxes, step=0).prediction.shape
        torch.Size([10, 3])
        """
        keys = (self.config.seed, rank, step, _PAIRS)
        pairs = sample_pairs(len(boxes), self.config.num_pairs, *keys)
        pairs = pairs.to(features.device, non_blocking=True)
        return compute_pair_loss(features, boxes, pairs, self.head, self.targets, self.loss, flips)

    def _encoded(
        self,
        backbone: nn.Module,
        images: Tensor | Crops,
        on_graph: bool,
        when: tuple[int, int],
        progress: float,
    ) -> tuple[Tensor, Tensor]:
        """The features (k, B, D) of the crops, and the boxes."""
        keys = (self.config.seed, *when)
        if isinstance(images, Crops):
            crops = images
        else:
            crops = self.sample_crops(images, make_generator(*keys), progress)
        with contextlib.nullcontext() if on_graph else torch.no_grad():
            features = self._encode(backbone, self._sized(crops.pixels), hash_seed(*keys))
        return features.reshape(*crops.boxes.shape[:2], -1), crops.boxes

    def _encode(self, backbone: nn.Module, crops: Tensor, seed: int) -> Tensor:
        quiet = (
            contextlib.nullcontext() if self.config.update_bn else frozen_running_stats(backbone)
        )
        with private_rng(seed, crops.device), quiet:
            return extract_features(
                backbone, crops, self.config.pool, self.config.layer, self.feature_fn
            )

    def _sized(self, crops: Tensor) -> Tensor:
        size = (self.config.crop_size, self.config.crop_size)
        if crops.shape[-2:] == size:  # else: drawn before it was known what the backbone takes
            return crops
        return F.interpolate(crops, size, mode="bilinear", antialias=True)
