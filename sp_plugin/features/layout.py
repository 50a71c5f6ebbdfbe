"""FeatureLayout: which tensor of a backbone's output holds the features, and how they lie in it.

Backbones return vectors (B, D), tokens (B, N, D) with or without class and register tokens, maps
(B, C, H, W) or (B, H, W, C), tuples and lists of these, or dicts. Unless ``crop_size`` has two
numbers, SP's crops are square, which tells these apart: the patch tokens of a square are a square
number, and the two equal sides of a map are its height and width. What one output leaves open is
measured when a run starts (`sp_plugin.features.probe`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sp_plugin.nested import tree_leaves
from sp_plugin.validation import ConfigError

__all__ = ["NO_CLASS_TOKEN", "FeatureLayout", "feature_tensors", "layout_of", "select_features"]

# Keys of the features in the outputs of well-known models, most spatial first: Hugging Face's
# ModelOutput, DINOv2's forward_features, solo-learn's forward, torchvision's and timm's extractors.
_FEATURE_KEYS = (
    "last_hidden_state", "x_norm_patchtokens", "x_prenorm", "feats", "features", "out", "x",
)  # fmt: skip
# Hugging Face's ``pooler_output`` is a class token for some models, and for others a mean, an
# attention pool, or a class token behind a layer of its own: the last resort.
_CLASS_TOKEN_KEY, _POOLED_KEY = "x_norm_clstoken", "pooler_output"

_PATCHES_ALONE_KEY = "x_norm_patchtokens"

NO_CLASS_TOKEN = "pool: got 'cls', but the backbone has no class token, takes 'mean'"

_NDIM = {"vector": 2, "tokens": 3, "nchw": 4, "nhwc": 4}


@dataclass(frozen=True)
class FeatureLayout:
    """Where a backbone's features are in its output; one for a whole run.

    Attributes:
        kind: ``vector`` (B, D), ``tokens`` (B, N, D), ``nchw`` (B, D, h, w) or ``nhwc``.
        feature_dim: width D.
        num_prefix: number of tokens before the patch tokens: class, register and other tokens.
        num_registers: how many of these are register tokens, where the model says so.
        position: index of the features among the tensors of an output in evaluation mode.
        training_position: the same in training mode, where a model may return more tensors.
        has_auxiliary: whether it does so: outputs for auxiliary losses, which are left out.
        is_masked: whether the backbone masks patches by itself, which is off for SP's crops.
        drops_patches: whether it does so in training mode only; then SP's crops lose patches too.
        is_random: whether its features are random in evaluation mode too, though it sees all.
        calls_module: whether the module itself is called, as its ``forward_features`` is for
            inference alone and gives no gradient.

    >>> import torch
    >>> layout_of(torch.ones(2, 5, 8)).pool(torch.ones(2, 5, 8)).shape
    torch.Size([2, 8])
    """

    kind: str
    feature_dim: int
    num_prefix: int = 0
    num_registers: int = 0
    position: int = 0
    training_position: int = 0
    has_auxiliary: bool = False
    is_masked: bool = False
    drops_patches: bool = False
    is_random: bool = False
    calls_module: bool = False

    def matches(self, tensor: Tensor) -> bool:
        """Whether a tensor has this kind's number of dimensions and this width."""
        axis = 1 if self.kind == "nchw" else -1
        return tensor.ndim == _NDIM[self.kind] and tensor.shape[axis] == self.feature_dim

    def select(self, output: Any, training: bool = False) -> Tensor:
        """The features in an output, not pooled.

        Args:
            output: what the backbone returned.
            training: whether it was in training mode.

        Raises:
            ConfigError: the output has none of this layout.
        """
        tensors = feature_tensors(output)
        position = self.training_position if training else self.position
        if position < len(tensors) and self.matches(tensors[position]):
            return tensors[position]
        matching = [tensor for tensor in tensors if self.matches(tensor)]
        if not matching:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "no features"
            raise ConfigError(
                f"backbone: got {shapes} in its output, takes {self.kind} of width "
                f"{self.feature_dim}, which it gave at the start; name the layer to use with layer="
            )
        return matching[0]

    def pool(self, output: Any, pool: str = "mean", training: bool = False) -> Tensor:
        """Pooled features (B, D).

        Args:
            output: what the backbone returned.
            pool: ``mean`` of the patch tokens, or the ``cls`` token, where there are tokens.
            training: whether the backbone was in training mode.

        Raises:
            ConfigError: the output has no features of this layout, or no class token.
        """
        features = self.select(output, training)
        if self.kind == "vector":
            return features
        if self.kind != "tokens":
            return features.mean(dim=(2, 3) if self.kind == "nchw" else (1, 2))
        if pool == "cls":
            if self.num_prefix <= self.num_registers:
                raise ConfigError(NO_CLASS_TOKEN)
            return features[:, 0]
        return features[:, self.num_prefix :].mean(dim=1)

    def to_map(self, output: Any) -> Tensor:
        """Spatial features (B, D, h, w) of an output in evaluation mode.

        Raises:
            ConfigError: the features are pooled already.
        """
        features = self.select(output)
        if self.kind == "vector":
            raise ConfigError(
                "layer: the backbone pools its features, takes a layer that gives a map"
            )
        if self.kind != "tokens":
            return features if self.kind == "nchw" else features.permute(0, 3, 1, 2)
        patches = features[:, self.num_prefix :].transpose(1, 2)
        side = math.isqrt(patches.shape[2])
        return patches.reshape(*patches.shape[:2], side, side)

    def describe(self, name: str, pool: str = "mean") -> str:
        """What was found, for the line at the start of a run.

        Args:
            name: name of the backbone's class.
            pool: as for `pool`.

        >>> FeatureLayout("tokens", 384, num_prefix=5, num_registers=4).describe("ViT")
        'ViT: 4 register tokens and a class token left out'
        >>> FeatureLayout("nchw", 512).describe("ResNet")
        'ResNet: mean of a map, width 512'
        """
        found = [self._describe_features(pool)]
        if self.has_auxiliary:
            found.append("auxiliary outputs left out")
        if self.is_masked:
            found.append("its masking switched off for SP's crops")
        if self.drops_patches:
            found.append("patches dropped in training, also of SP's crops")
        if self.is_random:
            found.append("random in evaluation mode too")
        return f"{name}: {', '.join(found)}"

    def _describe_features(self, pool: str) -> str:
        if self.kind == "vector":
            return f"vectors, width {self.feature_dim}"
        if self.kind != "tokens":
            return f"mean of a map, width {self.feature_dim}"
        if pool == "cls":
            return f"class token, width {self.feature_dim}"
        others = self.num_prefix - self.num_registers
        left_out = [_counted(self.num_registers, "register token")] if self.num_registers else []
        if others == 1:
            left_out.append("a class token")
        elif others:
            left_out.append(f"{others} {'other' if left_out else 'class'} tokens")
        if not left_out:
            return f"mean of all tokens, width {self.feature_dim}"
        return f"{' and '.join(left_out)} left out"


def _counted(count: int, noun: str) -> str:
    return f"a {noun}" if count == 1 else f"{count} {noun}s"


def layout_of(
    output: Any, pool: str = "mean", num_prefix: int | None = None, is_square: bool = True
) -> FeatureLayout:
    """Layout of one output, as far as it shows in its shapes.

    Args:
        output: what a backbone returned.
        pool: as for `FeatureLayout.pool`.
        num_prefix: number of tokens before the patch tokens; None, or a number that does not leave
            a square number of patch tokens: the smallest number that does.
        is_square: whether the images are square; for others no shape shows the number of prefix
            tokens, nor which axis of a map has the channels.

    Raises:
        ConfigError: nothing in the output can be pooled.
    """
    features = select_features(output, pool)
    position = next(n for n, t in enumerate(feature_tensors(output)) if t is features)
    if features.ndim == 2:
        return FeatureLayout("vector", features.shape[1], position=position)
    if features.ndim == 4:
        # (B, H, W, C), as Swin's and some others are in timm.
        is_nhwc = is_square and features.shape[1] == features.shape[2] != features.shape[3]
        kind, width = ("nhwc", features.shape[3]) if is_nhwc else ("nchw", features.shape[1])
        return FeatureLayout(kind, width, position=position)
    count = features.shape[1]
    if isinstance(output, Mapping) and features is output.get(_PATCHES_ALONE_KEY):
        num_prefix = 0
    elif not is_square:
        num_prefix = num_prefix or 0
    elif num_prefix is None or not _leaves_a_square(count, num_prefix):
        num_prefix = count - math.isqrt(count) ** 2
    return FeatureLayout("tokens", features.shape[2], num_prefix, position=position)


def _leaves_a_square(count: int, num_prefix: int) -> bool:
    """Whether the tokens after the first ``num_prefix`` are one or more, and a square number."""
    patches = count - num_prefix
    return patches > 0 and math.isqrt(patches) ** 2 == patches


def feature_tensors(output: Any) -> list[Tensor]:
    """All tensors of an output that could be features, depth first."""
    return list(tree_leaves(output, _is_feature_tensor))


def select_features(output: Any, pool: str = "mean") -> Tensor:
    """The one tensor of an output that is to be pooled.

    Raises:
        ConfigError: there is none.
    """
    if isinstance(output, Mapping):
        return select_features(_select_entry(output, pool), pool)
    if isinstance(output, Tensor) and not _is_feature_tensor(output):
        raise ConfigError(f"backbone: cannot pool an output of shape {tuple(output.shape)}")
    tensors = feature_tensors(output)
    if not tensors:
        raise ConfigError(f"backbone: no features in an output of type {type(output).__name__}")
    # The most spatial tensor, and of several the last: the deepest of a list of stages, the
    # latent of MAE's (latent, mask, ids), the tokens of (tokens, class token).
    ndim = max(t.ndim for t in tensors)
    spatial = [t for t in tensors if t.ndim == ndim][-1]
    if pool == "mean":
        return spatial
    # A class token is as wide as the patches' features; MAE's mask (B, N) is not.
    widths = spatial.shape[1::2] if ndim == 4 else spatial.shape[-1:]
    class_tokens = [t for t in tensors if t.ndim == 2 and t.shape[1] in widths]
    return class_tokens[-1] if class_tokens else spatial


def _select_entry(output: Mapping[str, Any], pool: str) -> Any:
    """The entry of a dict that holds the features; all of its values where no key is known."""
    keys = (*_FEATURE_KEYS, _CLASS_TOKEN_KEY, _POOLED_KEY)
    if pool == "cls":
        keys = (_CLASS_TOKEN_KEY, *_FEATURE_KEYS, _POOLED_KEY)
    known = [output[key] for key in keys if output.get(key) is not None]
    return known[0] if known else list(output.values())


def _is_feature_tensor(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point() and 2 <= item.ndim <= 4
