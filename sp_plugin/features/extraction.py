"""Extraction: pooled features (B, D) from whatever a backbone returns.

Backbones return vectors (B, D), tokens (B, N, D) with or without class and register tokens, maps
(B, C, H, W) or (B, H, W, C), tuples and lists of these, or dicts. SP's crops are square, which
tells these apart: the patch tokens of a square are a square number, and the two equal sides of a
map are its height and width. The features are those before the method's projector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from sp_plugin.nested import tree_leaves
from sp_plugin.validation import ConfigError, did_you_mean

__all__ = ["FeatureFn", "extract_feature_map", "extract_features", "find_layer", "pool_features"]

# Keys of the features in the outputs of well-known models, most spatial first: Hugging Face's
# ModelOutput, DINOv2's forward_features, solo-learn's forward, torchvision's and timm's extractors.
_FEATURE_KEYS = (
    "last_hidden_state", "x_norm_patchtokens", "x_prenorm", "feats", "features", "out", "x",
)  # fmt: skip
_CLASS_TOKEN_KEYS = ("x_norm_clstoken", "pooler_output")

_NO_CLASS_TOKEN = "pool: got 'cls', but the backbone has no class token, takes 'mean'"

FeatureFn = Callable[[nn.Module, Tensor], Any]
"""``feature_fn(backbone, images)``, for a backbone whose features are not what calling it gives."""


class _StopForward(Exception):
    """Ends a forward pass at the layer whose output is wanted."""


def extract_features(
    backbone: nn.Module,
    images: Tensor,
    pool: str = "mean",
    layer: str | None = None,
    feature_fn: FeatureFn | None = None,
) -> Tensor:
    """Pooled features of square images.

    A timm model (recognised by ``forward_features``) gives its features before the classifier,
    whatever its ``global_pool`` and ``num_classes``; any other module is called.

    Args:
        backbone: module that takes (B, 3, H, W).
        images: (B, 3, S, S).
        pool: pooling of token outputs: ``mean`` of the patch tokens, or the ``cls`` token.
        layer: dotted name of a submodule whose output is used; None: the last output.
        feature_fn: replaces the call, for a backbone that needs more than images (a mask, the
            number of a layer); its output is pooled likewise.

    Returns:
        (B, D).

    Raises:
        ConfigError: no such layer, or an output without features.

    >>> import torch
    >>> extract_features(nn.Conv2d(3, 8, 3), torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8])
    """
    if pool == "cls" and getattr(backbone, "cls_token", ...) is None:
        raise ConfigError(_NO_CLASS_TOKEN)  # the first token may be a register
    output = _call_backbone(backbone, images, layer, feature_fn)
    return pool_features(output, pool, prefix=getattr(backbone, "num_prefix_tokens", None))


def extract_feature_map(
    backbone: nn.Module,
    images: Tensor,
    layer: str | None = None,
    feature_fn: FeatureFn | None = None,
) -> Tensor:
    """Spatial features of square images: the map of a CNN, the patch tokens of a ViT.

    Args:
        backbone: module that takes (B, 3, H, W).
        images: (B, 3, S, S).
        layer: as for `extract_features`.
        feature_fn: as for `extract_features`.

    Returns:
        (B, D, h, w).

    Raises:
        ConfigError: no such layer, or the features are pooled already.

    >>> import torch
    >>> extract_feature_map(nn.Conv2d(3, 8, 3), torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8, 14, 14])
    """
    features = _select_features(_call_backbone(backbone, images, layer, feature_fn), "mean")
    if features.ndim == 2:
        raise ConfigError("layer: the backbone pools its features, takes a layer that gives a map")
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if _is_nhwc(features) else features
    prefix = _num_prefix_tokens(features.shape[1], getattr(backbone, "num_prefix_tokens", None))
    side = math.isqrt(features.shape[1] - prefix)
    patches = features[:, prefix:].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], side, side)


def pool_features(output: Any, pool: str = "mean", prefix: int | None = None) -> Tensor:
    """Pooled features (B, D) of a backbone's output for square images.

    Args:
        output: (B, D), (B, N, D), (B, C, H, W), (B, H, W, C), a tuple, list or dict of these.
        pool: ``mean`` of the patch tokens, or the ``cls`` token, where there are tokens.
        prefix: number of tokens before the patch tokens; None: derived from the token count.

    Returns:
        (B, D).

    Raises:
        ConfigError: nothing in the output can be pooled.

    >>> import torch
    >>> pool_features(torch.ones(2, 5, 8)).shape
    torch.Size([2, 8])
    >>> pool_features((torch.ones(2, 8, 4, 4), None)).shape
    torch.Size([2, 8])
    """
    features = _select_features(output, pool)
    if features.ndim == 2:
        return features
    if features.ndim == 4:
        return features.mean(dim=(1, 2) if _is_nhwc(features) else (2, 3))
    return _pool_tokens(features, pool, prefix)


def find_layer(backbone: nn.Module, layer: str) -> nn.Module:
    """Submodule of that dotted name.

    Raises:
        ConfigError: there is none; with the nearest name.
    """
    parts: dict[str, nn.Module] = dict(backbone.named_modules())
    if layer not in parts:
        names = filter(None, parts)  # the backbone itself has the name ""
        raise ConfigError(f"layer: the backbone has no {layer!r}; {did_you_mean(layer, names)}")
    return parts[layer]


def _call_backbone(
    backbone: nn.Module, images: Tensor, layer: str | None, feature_fn: FeatureFn | None
) -> Any:
    if layer is not None:
        return _call_up_to(backbone, images, layer, feature_fn or nn.Module.__call__)
    if feature_fn is not None:
        return feature_fn(backbone, images)
    if callable(forward_features := getattr(backbone, "forward_features", None)):
        return forward_features(images)
    return backbone(images)


def _call_up_to(backbone: nn.Module, images: Tensor, layer: str, feature_fn: FeatureFn) -> Any:
    """Output of one layer; the rest of the forward pass is left out."""
    outputs: list[Any] = []

    def record(_: nn.Module, __: Any, output: Any) -> None:
        outputs.append(output)
        raise _StopForward

    handle = find_layer(backbone, layer).register_forward_hook(record)
    try:
        feature_fn(backbone, images)
    except _StopForward:
        pass
    finally:
        handle.remove()
    if not outputs:
        raise ConfigError(f"layer: the backbone's forward pass never calls {layer!r}")
    return outputs[0]


def _select_features(output: Any, pool: str) -> Tensor:
    """The one tensor of an output that is to be pooled."""
    if isinstance(output, Mapping):
        output = _select_entry(output, pool)
        return _select_features(output, pool)
    if isinstance(output, Tensor) and not _is_feature_tensor(output):
        raise ConfigError(f"backbone: cannot pool an output of shape {tuple(output.shape)}")
    tensors: list[Tensor] = list(tree_leaves(output, _is_feature_tensor))
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
    keys = (*_FEATURE_KEYS, *_CLASS_TOKEN_KEYS)
    if pool == "cls":
        keys = (*_CLASS_TOKEN_KEYS, *_FEATURE_KEYS)
    known = [output[key] for key in keys if output.get(key) is not None]
    return known[0] if known else list(output.values())


def _is_feature_tensor(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point() and 2 <= item.ndim <= 4


def _is_nhwc(features: Tensor) -> bool:
    """Whether a map is (B, H, W, C), as Swin's and some others are in timm."""
    _, first, second, third = features.shape
    return first == second != third


def _pool_tokens(tokens: Tensor, pool: str, prefix: int | None) -> Tensor:
    prefix = _num_prefix_tokens(tokens.shape[1], prefix)
    if pool == "cls":
        if prefix == 0:
            raise ConfigError(_NO_CLASS_TOKEN)
        return tokens[:, 0]
    return tokens[:, prefix:].mean(dim=1)


def _num_prefix_tokens(count: int, prefix: int | None) -> int:
    """Number of tokens before the patch tokens, whose count is a square."""
    if prefix is None or prefix >= count or math.isqrt(count - prefix) ** 2 != count - prefix:
        return count - math.isqrt(count) ** 2
    return prefix
