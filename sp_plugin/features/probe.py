"""Probe: a backbone's features, measured with crops of one size in evaluation and training mode.

It runs on private generators, without gradients and with frozen statistics, and every mode is
restored: the backbone and the host's randomness stay as they were.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sp_plugin.features.backbone_call import (
    FeatureFn,
    call_backbone,
    call_feature_module,
    unmasked,
)
from sp_plugin.features.layout import (
    FeatureLayout,
    feature_tensors,
    layout_of,
    select_features,
)
from sp_plugin.features.prefix_tokens import (
    count_patches,
    declared_prefix,
    declared_registers,
    solve_prefix,
)
from sp_plugin.isolation import (
    eval_mode,
    frozen_running_stats,
    private_rng,
    restored_modes,
    uncached_autocast,
    uncompiled,
)
from sp_plugin.sizes import Size, height_and_width
from sp_plugin.structures import RGB_CHANNELS
from sp_plugin.validation import ConfigError

__all__ = ["Probe", "TrainingModeError"]

_BATCH = 2  # a BatchNorm in training mode takes no single vector
_SAME = 1e-3  # largest relative difference between two runs of the same numbers, on any device


class TrainingModeError(Exception):
    """A backbone that runs in evaluation mode failed in training mode; the cause is chained."""


@dataclass(frozen=True)
class Probe:
    """Runs of one backbone as SP calls it.

    Attributes:
        backbone: module that takes (B, C, h, w).
        pool: as for `sp_plugin.features.extraction.extract_features`; so are the other two.
        layer: see there.
        feature_fn: see there.
        channels: number of channels C of the images.
    """

    backbone: nn.Module
    pool: str = "mean"
    layer: str | None = None
    feature_fn: FeatureFn | None = None
    channels: int = RGB_CHANNELS

    def find_layout(self, size: Size, in_training: bool = True) -> FeatureLayout:
        """Layout of the features of crops of ``size`` px.

        Args:
            size: of the crops in pixels: the side of a square, or height and width.
            in_training: whether to run the backbone in training mode too.

        Raises:
            ConfigError: no features, or features that SP could only guess.
            TrainingModeError: the backbone takes this size in evaluation mode only.
            Exception: whatever a backbone raises that does not take this size.

        >>> Probe(nn.Conv2d(3, 8, 3)).find_layout(16)
        FeatureLayout(kind='nchw', feature_dim=8, num_prefix=0, num_registers=0, position=0,
                      training_position=0, has_auxiliary=False, is_masked=False,
                      drops_patches=False, is_random=False, calls_module=False)
        """
        if in_training and self._loses_gradient(size):
            probe = replace(self, feature_fn=call_feature_module)
            return replace(probe.find_layout(size), calls_module=True)
        output = self._run(size)
        training_output = self._run_in_training(size) if in_training else None
        layout = self._layout_of(output, size)
        if self._differs(output, self._run(size, seed=1)):
            output, layout = self._without_masking(size, output, layout)
            if layout.is_masked and in_training:
                training_output = self._run_in_training(size, mask=False)
        if layout.kind == "tokens":
            layout = self._with_prefix(layout, size, layout.select(output).shape[1])
        elif layout.kind == "nchw":
            layout = self._with_channel_axis(layout, size, layout.select(output))
        layout.pool(output, self.pool)  # raises where there is no class token to take
        if in_training:
            layout = self._with_training(layout, size, output, training_output)
        return layout

    def count_calls(self, size: Size) -> int:
        """Number of calls of submodules before a run at ``size`` px ends or fails."""
        calls: list[nn.Module] = []
        handles = [
            part.register_forward_pre_hook(lambda part, _: calls.append(part))
            for part in self.backbone.modules()
        ]
        with contextlib.suppress(Exception):
            try:
                self._run(size)
            finally:
                for handle in handles:
                    handle.remove()
        return len(calls)

    def _run(self, size: Size, seed: int = 0, mask: bool = True) -> Any:
        """Output in evaluation mode."""
        with eval_mode(self.backbone), self._guards(seed), self._masking(mask):
            return self._call(size)

    def _run_in_training(self, size: Size, mask: bool = True, leaves: bool = True) -> Any:
        """Output in training mode; without ``leaves``, of the modules that contain others alone."""
        with restored_modes(self.backbone), torch.no_grad():
            if not self.backbone.training:
                self.backbone.train()
            for part in self.backbone.modules():
                # SyncBatchNorm takes no tensors on the CPU, where a model may be at the start.
                is_leaf = next(part.children(), None) is None
                if isinstance(part, nn.SyncBatchNorm) or (is_leaf and not leaves):
                    part.eval()
            # The guard of the statistics takes the modes as they are.
            with self._guards(0), self._masking(mask):
                try:
                    return self._call(size)
                except ConfigError:
                    raise
                except Exception as error:
                    raise TrainingModeError from error

    def _loses_gradient(self, size: Size) -> bool:
        """Whether ``forward_features`` is for inference alone: it cuts the gradient off."""
        is_used = self.layer is None and self.feature_fn is None
        has_method = callable(getattr(self.backbone, "forward_features", None))
        if not (
            is_used and has_method and any(p.requires_grad for p in self.backbone.parameters())
        ):
            return False
        with eval_mode(self.backbone), torch.enable_grad(), self._guards(0):
            tensors = feature_tensors(self._call(size))
        return bool(tensors) and not any(tensor.requires_grad for tensor in tensors)

    @contextlib.contextmanager
    def _guards(self, seed: int) -> Iterator[None]:
        # Some keep a table of positions as a buffer, made anew for each size (timm's ConViT).
        with (
            private_rng(seed, self._like.device),
            frozen_running_stats(self.backbone),
            uncached_autocast(),
            uncompiled(),
        ):
            yield

    def _masking(self, mask: bool) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if mask else unmasked(self.backbone)

    def _call(self, size: Size) -> Any:
        # The same images in every run, whatever its seed.
        generator = torch.Generator(device="cpu").manual_seed(0)
        shape = (_BATCH, self.channels, *height_and_width(size))
        images = torch.rand(shape, generator=generator, device="cpu").to(self._like)
        return call_backbone(self.backbone, images, self.layer, self.feature_fn)

    @property
    def _like(self) -> Tensor:
        parameters = (p for p in self.backbone.parameters() if p.is_floating_point())
        return next(parameters, torch.zeros(()))

    def _layout_of(self, output: Any, size: Size) -> FeatureLayout:
        height, width = height_and_width(size)
        prefix = declared_prefix(self.backbone)
        return layout_of(output, self.pool, prefix, is_square=height == width)

    def _differs(self, first: Any, second: Any) -> bool:
        """Whether the features of two outputs differ, in shape or in numbers."""
        a, b = (select_features(output, self.pool) for output in (first, second))
        if a.shape != b.shape:
            return True
        if a.is_meta:  # without numbers
            return False
        # Row by row: register tokens are much larger than patch tokens.
        return bool(((a - b).abs() > _SAME * a.abs().amax(dim=-1, keepdim=True)).any())

    def _without_masking(
        self, size: Size, output: Any, layout: FeatureLayout
    ) -> tuple[Any, FeatureLayout]:
        """For a backbone that is random in evaluation mode too: its output without a mask.

        Raises:
            ConfigError: it may see a part of each crop, and has no setting to see all of it.
        """
        with unmasked(self.backbone) as can_unmask:
            pass
        if can_unmask:
            whole = self._run(size, mask=False)
            if not self._differs_in_mean(whole, self._run(size, seed=1, mask=False), size):
                return whole, replace(self._layout_of(whole, size), is_masked=True)
        patches = count_patches(self.backbone, size, self.channels)
        is_whole = patches is not None and layout.select(output).shape[1] >= patches
        if layout.kind != "tokens" or is_whole:
            return output, replace(layout, is_random=True)
        raise ConfigError(
            f"backbone: {type(self.backbone).__name__} masks patches at random, in evaluation mode "
            "too, and SP's crops have to be seen whole; give a feature_fn=, a function of backbone "
            "and crops that encodes whole crops"
        )

    def _differs_in_mean(self, first: Any, second: Any, size: Size) -> bool:
        """As `_differs`, but the order of tokens does not count."""
        means = [
            self._layout_of(output, size).pool(output, self.pool) for output in (first, second)
        ]
        return self._differs(*means)

    def _with_prefix(self, layout: FeatureLayout, size: Size, count: int) -> FeatureLayout:
        """The number of prefix tokens, measured where model and token count leave doubt."""
        declared = declared_prefix(self.backbone) or 0  # an inner layer may be before them
        patches = count_patches(self.backbone, size, self.channels)
        by_patches = None if patches is None or patches > count else count - patches
        num_prefix = layout.num_prefix  # what leaves a square
        if declared == by_patches:
            num_prefix = declared
        elif (solved := self._solve_prefix(layout, size, count)) is not None:
            num_prefix = solved
        elif by_patches is not None:
            num_prefix = by_patches
        registers = min(declared_registers(self.backbone), num_prefix)
        return replace(layout, num_prefix=num_prefix, num_registers=registers)

    def _solve_prefix(self, layout: FeatureLayout, size: Size, count: int) -> int | None:
        mask, side = not layout.is_masked, max(height_and_width(size))
        try:
            if side != size:  # the counts of squares tell
                count = layout.select(self._run(side, mask=mask)).shape[1]
            double = layout.select(self._run(2 * side, mask=mask))
        except Exception:  # any, of a backbone that takes one size
            return None
        return solve_prefix(count, double.shape[1])

    def _with_channel_axis(
        self, layout: FeatureLayout, size: Size, features: Tensor
    ) -> FeatureLayout:
        """For a map whose axes its shape does not tell: that which a larger image leaves alone."""
        height, width = height_and_width(size)
        if height == width and len(set(features.shape[1:])) > 1:
            return layout
        try:
            double = select_features(self._run((2 * height, 2 * width)), self.pool)
            is_nhwc = double.ndim == 4 and double.shape[1] != features.shape[1]
        except Exception:  # as above
            # A map has the shape of its image.
            first, second = (
                abs(math.log(axes[0] / axes[1] * width / height))
                for axes in (features.shape[1:3], features.shape[2:4])
            )
            is_nhwc = first < second
        return replace(layout, kind="nhwc", feature_dim=features.shape[3]) if is_nhwc else layout

    def _with_training(
        self, layout: FeatureLayout, size: Size, output: Any, training_output: Any
    ) -> FeatureLayout:
        """The layout with its position in training mode.

        Raises:
            ConfigError: the features are not to be found there.
        """
        tensors = feature_tensors(training_output)
        matching = [n for n, tensor in enumerate(tensors) if layout.matches(tensor)]
        if not matching:
            raise self._refusal(tensors, feature_tensors(output))
        has_auxiliary = len(tensors) > len(feature_tensors(output))
        position = layout.position if layout.position in matching else matching[0]
        if has_auxiliary and len(matching) > 1:
            # The features are those that are as in evaluation, but for the layers' own noise.
            mask = not layout.is_masked
            exact = feature_tensors(self._run_in_training(size, mask, leaves=False))
            features = layout.select(output)
            same = [n for n in matching if n < len(exact) and not self._differs(exact[n], features)]
            if not same:
                raise self._refusal(tensors, feature_tensors(output))
            position = same[0]
        layout = replace(layout, training_position=position, has_auxiliary=has_auxiliary)
        if layout.kind != "tokens":
            return layout
        count, in_training = layout.select(output).shape[1], tensors[position].shape[1]
        if in_training > count or in_training <= layout.num_prefix:
            raise self._refusal(tensors, feature_tensors(output))
        if in_training < count and not layout.is_masked and self._sees_all_unmasked(size, count):
            return replace(layout, is_masked=True)
        return replace(layout, drops_patches=in_training < count)

    def _sees_all_unmasked(self, size: Size, count: int) -> bool:
        """Whether a backbone that masks in training mode alone gives all tokens without a mask."""
        with unmasked(self.backbone) as can_unmask:
            pass
        if not can_unmask:
            return False
        tensors = feature_tensors(self._run_in_training(size, mask=False))
        return any(tensor.ndim == 3 and tensor.shape[1] == count for tensor in tensors)

    def _refusal(self, training: list[Tensor], evaluation: list[Tensor]) -> ConfigError:
        shapes, expected = (
            ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "no features"
            for tensors in (training, evaluation)
        )
        return ConfigError(
            f"backbone: {type(self.backbone).__name__} gives {shapes} in training mode and "
            f"{expected} in evaluation mode, and which are the same features is unknown; name the "
            "layer to use with layer="
        )
