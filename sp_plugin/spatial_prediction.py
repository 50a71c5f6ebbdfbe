"""SpatialPrediction: the method from images to the loss. Start reading here.

    images -> CropSampler -> boxes -> crop_resize -> backbone -> SPHead -> SPLoss <- TargetEncoder

Spatial Prediction is the task of arXiv 2605.09963: from one image take two local views, encode
both, and predict their relative position and scale in a continuous space. Only the abstract of
that paper could be read; what it leaves open is our choice and a setting of `SPConfig`.

These compile (`torch.compile`) without a graph break: `CropSampler.to_boxes`, `crop_resize`,
`matched_resolution` and `compute_pair_loss`; with all pairs also `SpatialPrediction.pair_loss`.
The private generators and their draws stay eager, and so do the guards of the backbone
(`sp_plugin.isolation`); ``torch.compile(sp)`` breaks there alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_plugin.batch_sample import sample_images
from sp_plugin.config import DEFAULT_VIEW_SIZE, ResolvedConfig, SPConfig
from sp_plugin.crops.batch_colors import color_crops
from sp_plugin.crops.sampler import sample_crops
from sp_plugin.features.backbone_call import FeatureFn
from sp_plugin.features.extraction import extract_features
from sp_plugin.features.input_size import BackboneSpec, find_input_size
from sp_plugin.features.layout import FeatureLayout
from sp_plugin.gradient_balance import GradientBalance, is_measurement_step
from sp_plugin.isolation import (
    frozen_running_stats,
    hash_seed,
    make_generator,
    private_rng,
    uncached_autocast,
    uncompiled,
)
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.loss import SPLoss
from sp_plugin.objective.pair_loss import compute_pair_loss
from sp_plugin.objective.pairs import sample_pairs
from sp_plugin.objective.targets import TargetEncoder, target_std_of_views
from sp_plugin.sizes import Size, height_and_width
from sp_plugin.structures import Crops, EncodedViews, SPOutput, UncoloredCrops
from sp_plugin.validation import ConfigError, first_line

__all__ = ["SpatialPrediction"]

# These separate the draws of pairs, of images and of colours from those of boxes.
_PAIR_DRAWS, _IMAGE_DRAWS, _COLOR_DRAWS = 1, 2, 5  # 3 and 4 are the probe's


class SpatialPrediction(nn.Module):
    """SP as a module next to a backbone, which is passed to each call and never stored.

    Its parameters are the head's alone. Its construction draws nothing from the global generators.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config: settings, as an `SPConfig` or a mapping; those left open are resolved for views of
            224 px, until `configure_for` is called.
        feature_fn: ``feature_fn(backbone, crops)`` for a backbone whose features are not what
            calling it gives; see `sp_plugin.features.extraction.extract_features`.

    Attributes:
        is_loaded: whether a state dict was loaded, as in a resumed run.
        channels: number of channels that the backbone takes, once it was run; None before.

    Raises:
        ConfigError: an unknown setting or a bad value.

    >>> backbone = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU())
    >>> sp = SpatialPrediction(16, SPConfig(crop_size=16))
    >>> images = torch.rand(4, 3, 32, 32)
    >>> out = sp(backbone, images, step=0)
    >>> (backbone(images).square().mean() + out.loss).backward()
    >>> sorted(out.metrics)
    ['loss', 'r2_dx', 'r2_dy', 'r2_scale', 'skipped_fraction', 'weight']
    """

    def __init__(
        self,
        feature_dim: int,
        config: SPConfig | Mapping[str, Any] | None = None,
        feature_fn: FeatureFn | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.feature_fn = feature_fn
        self.layout: FeatureLayout | None = None  # of the backbone, once it was run
        self.channels: int | None = None  # likewise
        self.user_config = SPConfig.from_dict(config)
        self._apply_config(self.user_config.resolve(DEFAULT_VIEW_SIZE))
        self.targets = TargetEncoder(self.sampler, self.config.target_encoding)
        # On the CPU, whose generator is private here; then to where modules are built just now.
        with torch.device("cpu"), private_rng(hash_seed(self.config.seed)):
            head = SPHead(feature_dim, self.config.hidden_dim, self.config.head)
        self.head = head.to(torch.empty(0).device)
        self.loss = SPLoss(self.config.loss)
        self.balance = GradientBalance()
        self.unfreeze_head()
        self.is_loaded = False
        self.register_load_state_dict_post_hook(_mark_loaded)  # type: ignore[no-untyped-call]

    def unfreeze_head(self) -> None:
        """Let the head be trained, unless SP's weight is 0.

        It must then have no gradient at all: zeros would still enter the sum of a clipped norm, and
        move its last bit.
        """
        self.head.requires_grad_(self.config.weight > 0)

    @classmethod
    def from_backbone(
        cls,
        backbone: nn.Module,
        images: Tensor | None = None,
        config: SPConfig | Mapping[str, Any] | None = None,
        feature_fn: FeatureFn | None = None,
    ) -> SpatialPrediction:
        """Build SP for a backbone, whose feature width and crop size are found by running it.

        Args:
            backbone: module that takes images; it stays as it was, and SP goes to its device.
            images: (B, C, H, W) as the backbone is trained on, for their size and their channels;
                None: 224 px, until `configure_for` is called, and the channels of its first
                convolution.
            config: as for the class.
            feature_fn: as for the class.

        Raises:
            ConfigError: the backbone takes no crop size that was tried.

        >>> sp = SpatialPrediction.from_backbone(nn.Conv2d(3, 8, 3), torch.rand(2, 3, 64, 64))
        >>> sp.feature_dim, sp.config.crop_size
        (8, 32)
        """
        config = SPConfig.from_dict(config)
        view_size = None if images is None else (images.shape[-2], images.shape[-1])
        channels = None if images is None else images.shape[1]
        spec = _find_spec(backbone, config, feature_fn, view_size, channels)
        with torch.device("cpu"):
            sp = cls(spec.feature_dim, config, feature_fn)
        sp._apply_spec(view_size, spec)
        return sp.to(next((p.device for p in backbone.parameters()), torch.device("cpu")))

    def configure_for(
        self, backbone: nn.Module, view_size: Size, channels: int | None = None
    ) -> SpatialPrediction:
        """Resolve open settings for a backbone and for the method's views.

        Args:
            backbone: module that takes images.
            view_size: of the views in pixels: the side of a square, or height and width.
            channels: of the views; None: as found when SP was built.

        Raises:
            ConfigError: the backbone takes no crop size that was tried.
        """
        channels = channels or self.channels
        spec = _find_spec(backbone, self.user_config, self.feature_fn, view_size, channels)
        return self._apply_spec(view_size, spec)

    def _apply_spec(self, view_size: Size | None, spec: BackboneSpec) -> SpatialPrediction:
        self.layout, self.channels = spec.layout, spec.channels
        resolved = self.user_config.resolve(view_size or DEFAULT_VIEW_SIZE)
        frame = view_size if resolved.source == "view" else None
        self._apply_config(dataclasses.replace(resolved, crop_size=spec.input_size), frame)
        with torch.device("cpu"):
            std = TargetEncoder(self.sampler, self.config.target_encoding).std
        self.targets.set_std(std)
        return self

    def _apply_config(self, config: ResolvedConfig, frame: Size | None = None) -> None:
        self.config = config
        self.sampler = config.build_sampler(frame)

    def calibrate_targets(self, boxes: Tensor) -> SpatialPrediction:
        """Set the targets' standard deviations to those between the method's own views.

        Args:
            boxes: (n, k, 4), k views in each of n runs of the method's transform, such as
                `sp_plugin.views.transform.ViewBoxTransform.sample_boxes` gives; NaN is left out.

        Raises:
            ConfigError: all views show the same part of their image.
        """
        std = target_std_of_views(boxes, self.config.target_encoding)
        self.targets.set_std(std)
        return self

    def reset_parameters(self) -> SpatialPrediction:
        """Set head and buffers to what a new module has, in place.

        For code that builds its model on the meta device, or fills all tensors with NaN, and
        initialises them afterwards (DINOv3's ``init_weights``). Targets that were calibrated are to
        be calibrated again.

        >>> sp = SpatialPrediction(8)
        >>> _ = sp._apply(lambda tensor: torch.full_like(tensor, torch.nan))
        >>> all(value.isfinite().all() for value in sp.reset_parameters().parameters())
        True
        """
        with torch.device("cpu"):
            new = type(self)(self.feature_dim, self.user_config, self.feature_fn)
            new.targets.set_std(TargetEncoder(self.sampler, self.config.target_encoding).std)
        is_loaded = self.is_loaded
        self.load_state_dict(new.state_dict())
        self.is_loaded = is_loaded
        return self

    def weight(self, progress: float) -> float:
        """Scheduled weight at a progress of training in [0, 1].

        >>> config = SPConfig(weight=1, warmup_fraction=0.5, cooldown_fraction=0.25)
        >>> sp = SpatialPrediction(8, config)
        >>> [sp.weight(p) for p in (0.0, 0.25, 0.5, 0.875, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
        """
        warmup, cooldown = self.config.warmup_fraction, self.config.cooldown_fraction
        rise = progress / warmup if warmup else 1.0
        fall = (1 - progress) / cooldown if cooldown else 1.0
        return self.config.weight * max(0.0, min(1.0, rise, fall))

    def forward(
        self,
        backbone: nn.Module,
        images: Tensor | Crops | UncoloredCrops | EncodedViews,
        *,
        step: int,
        rank: int = 0,
        progress: float = 1.0,
    ) -> SPOutput:
        """SP's weighted loss: images become crops, crops become features, features a pair loss.

        Args:
            backbone: student of the host, in its training mode; called once, or not at all for
                `EncodedViews`.
            images: (B, C, H, W), normalised as the backbone expects, to sample crops from; or
                `Crops` or `UncoloredCrops` that were made elsewhere; or `EncodedViews` that the
                host has encoded.
            step: number of the call; with seed and rank it determines all draws.
            rank: rank of this process.
            progress: progress of training in [0, 1].

        Raises:
            ConfigError: the weight is relative, and the backbone gives no gradient by itself; or
                the head is frozen.
        """
        weight = self.weight(progress)
        is_trained = self.config.weight > 0 and torch.is_grad_enabled()
        flags = [p.requires_grad for p in self.head.parameters()]
        if is_trained and flags and not any(flags):
            raise ConfigError("head: got frozen parameters, takes some with requires_grad=True")
        is_relative = self.config.relative_weight and is_trained
        is_measuring = is_relative and is_measurement_step(step)
        needs_gradient = weight > 0 or is_measuring
        key = (self.config.seed, rank, step)
        retain_graph = isinstance(images, EncodedViews)  # it is the host's own graph

        images = self.prepare_images(images, step, rank)
        if isinstance(images, Tensor):
            images = self.sample_crops(images, make_generator(*key), progress)
        if isinstance(images, Crops):
            images = self.encode_crops(backbone, images, hash_seed(*key), needs_gradient)
        features = images.features if needs_gradient else images.features.detach()
        out = self.pair_loss(features, images.boxes, images.flips, step=step, rank=rank)

        if not is_relative:
            return out.scaled(weight)
        self.balance.finish_measurement()  # of an earlier step
        if is_measuring:
            zero_loss = self.balance.begin_measurement(out.loss, backbone, self.head, retain_graph)
            return dataclasses.replace(out.scaled(0.0), loss=zero_loss)
        out = out.scaled(weight * self.balance.loss_scale)
        self.balance.mute_while_measuring(out.loss)
        return out

    def prepare_images(
        self, images: Tensor | Crops | UncoloredCrops | EncodedViews, step: int, rank: int = 0
    ) -> Tensor | Crops | EncodedViews:
        """What SP sees of a batch in a step: its part by ``sample_fraction``, with its colours.

        Args:
            images: as for `forward`.
            step: as for `forward`.
            rank: as for `forward`.
        """
        keys = (self.config.seed, rank, step)
        fraction = self.config.sample_fraction
        if isinstance(images, EncodedViews) and self.user_config.sample_fraction is None:
            fraction = 1.0  # their features are there anyway
        images = sample_images(images, fraction, *keys, _IMAGE_DRAWS)
        if isinstance(images, UncoloredCrops):
            images = color_crops(images, make_generator(*keys, _COLOR_DRAWS))
        return images

    def sample_crops(
        self, images: Tensor, generator: torch.Generator, progress: float = 1.0
    ) -> Crops:
        """Draw the crops of each image, and cut them out.

        Args:
            images: (B, C, H, W).
            generator: private CPU generator.
            progress: progress of training in [0, 1].

        Raises:
            ConfigError: there are no images.
        """
        if not len(images):
            raise ConfigError(f"batch: got no images, of shape {tuple(images.shape)}")
        is_equal = self.config.sharpness == "equal"
        crop_size = self.config.crop_size
        return sample_crops(images, self.sampler, crop_size, generator, progress, is_equal)

    def encode_crops(
        self, backbone: nn.Module, crops: Crops, seed: int, needs_gradient: bool = True
    ) -> EncodedViews:
        """Features of crops, without a trace in the host's generators and running statistics.

        Args:
            backbone: student of the host; called once.
            crops: k crops of each of B images.
            seed: seed of dropout and the like inside the backbone.
            needs_gradient: whether a graph is kept.

        Raises:
            ConfigError: the backbone fails on the crops; with its own message.
        """
        pixels = self._match_dtype(self._resize_to_input(crops.pixels), backbone)
        updates_bn = self.config.update_bn
        with contextlib.ExitStack() as guards:
            guards.enter_context(torch.set_grad_enabled(needs_gradient and torch.is_grad_enabled()))
            if not torch.is_grad_enabled():
                guards.enter_context(uncached_autocast())
                guards.enter_context(uncompiled())
            guards.enter_context(private_rng(seed, pixels.device))
            if not updates_bn:
                guards.enter_context(frozen_running_stats(backbone))
            try:
                features = extract_features(
                    backbone,
                    pixels,
                    self.config.pool,
                    self.config.layer,
                    self.feature_fn,
                    self.layout,
                )
            except (ConfigError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # whatever the backbone raises
                shape = tuple(pixels.shape)
                raise ConfigError(
                    f"backbone: {type(backbone).__name__} fails on SP's crops of shape {shape}: "
                    f"{first_line(error)}"
                ) from error
        return EncodedViews(features.reshape(*crops.boxes.shape[:2], -1), crops.boxes)

    def pair_loss(
        self,
        features: Tensor,
        boxes: Tensor,
        flips: Tensor | None = None,
        *,
        step: int,
        rank: int = 0,
    ) -> SPOutput:
        """Unweighted loss on pairs of crops whose features are given.

        Args:
            features: (k, B, D), pooled, of k crops of each image.
            boxes: (k, B, 4), in a frame that the crops of an image share.
            flips: (k, B, 2), of views that were flipped on their own; see
                `sp_plugin.objective.pair_loss.compute_pair_loss`.
            step: as for `forward`.
            rank: as for `forward`.

        Raises:
            ConfigError: the features have another width than at the start, or are on another device
                than SP.

        >>> sp = SpatialPrediction(16, SPConfig(num_pairs=2, num_crops=3))
        >>> boxes = sp.sampler(5, torch.Generator().manual_seed(0))
        >>> sp.pair_loss(torch.randn(3, 5, 16), boxes, step=0).prediction.shape
        torch.Size([10, 3])
        """
        if features.shape[-1] != self.feature_dim:
            raise ConfigError(
                f"backbone: gives features of width {features.shape[-1]}, where "
                f"{self.feature_dim} were found at the start"
            )
        if features.device != (device := self.targets.std.device):
            raise ConfigError(
                f"backbone: gives features on {features.device}, but SP is on {device}; takes one "
                "that is moved before SP is built, or SP moved after it"
            )
        keys = (self.config.seed, rank, step, _PAIR_DRAWS)
        pairs = sample_pairs(len(boxes), self.config.num_pairs, *keys)
        pairs = pairs.to(features.device, non_blocking=True)
        return compute_pair_loss(features, boxes, pairs, self.head, self.targets, self.loss, flips)

    @staticmethod
    def _match_dtype(crops: Tensor, backbone: nn.Module) -> Tensor:
        """Crops in the backbone's dtype, where images of another one came from the data."""
        dtypes = (p.dtype for p in backbone.parameters() if p.is_floating_point())
        first = next(dtypes, crops.dtype)
        return crops if crops.dtype == first or crops.dtype in dtypes else crops.to(first)

    def _resize_to_input(self, crops: Tensor) -> Tensor:
        size = height_and_width(self.config.crop_size)
        if crops.shape[-2:] == size:  # else: cut before it was known what the backbone takes
            return crops
        return F.interpolate(crops, size, mode="bilinear", antialias=True)


def _find_spec(
    backbone: nn.Module,
    config: SPConfig,
    feature_fn: FeatureFn | None,
    view_size: Size | None,
    channels: int | None,
) -> BackboneSpec:
    """Crop size and features of a backbone, for views that are known or not."""
    preferred = config.resolve(view_size or DEFAULT_VIEW_SIZE).crop_size
    return find_input_size(
        backbone,
        preferred,
        config.pool,
        config.layer,
        feature_fn,
        channels=channels,
        view_size=view_size,
    )


def _mark_loaded(sp: SpatialPrediction, _: Any) -> None:
    sp.is_loaded = True
    sp.balance.mark_loaded()
