"""Pooled features (B, D) out of whatever a backbone returns.

Backbones return vectors (B, D), tokens (B, N, D) with or without class and register tokens, maps
(B, C, H, W) or (B, H, W, C), tuples and lists of these, or dicts. SP encodes square crops, and
that is what tells them apart: the patch tokens of a square are a square number, and the two equal
sides of a map are its height and width. The features are those before the host's projector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from sp_plugin.validation import ConfigError, did_you_mean

# Where dicts of well-known models keep their features, most spatial first: Hugging Face's
# ModelOutput, DINOv2's forward_features, solo-learn's forward, torchvision's and timm's extractors.
_KEYS = ("last_hidden_state", "x_norm_patchtokens", "x_prenorm", "feats", "features", "out", "x")
_CLASS_KEYS = ("x_norm_clstoken", "pooler_output")

_NO_CLASS = "pool: got 'cls', but the backbone has no class token, takes 'mean'"


# How a backbone is asked for its features, where calling it is not the way.
FeatureFn = Callable[[nn.Module, Tensor], Any]


class _StopForward(Exception):
    """The layer that was asked for has answered: the rest of the forward pass is not needed."""


def extract_features(
    backbone: nn.Module,
    images: Tensor,
    pool: str = "mean",
    layer: str | None = None,
    call: FeatureFn | None = None,
) -> Tensor:
    """Features of square images, pooled.

    A model of timm (recognised by ``forward_features``) is asked for its features before the
    classifier, whatever its ``global_pool`` and ``num_classes`` are; any other module is called.

    Args:
        backbone: takes (B, 3, H, W).
        images: (B, 3, S, S).
        pool: of token outputs: ``mean`` of the patch tokens, or the ``cls`` token.
        layer: dotted name of a submodule whose output is taken instead of the last.
        call: ``call(backbone, images)`` in place of the above, for a backbone that needs more
            than images (a mask, a layer's number); its output is pooled likewise.

    Returns:
        (B, D).

    Raises:
        ConfigError: no such layer, or an output that holds no features; the line says which.

    >>> import torch
    >>> extract_features(nn.Conv2d(3, 8, 3), torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8])
    """
    if pool == "cls" and getattr(backbone, "cls_token", ...) is None:
        raise ConfigError(_NO_CLASS)  # the first token may be a register
    output = _call_backbone(backbone, images, layer, call)
    return pool_features(output, pool, prefix=getattr(backbone, "num_prefix_tokens", None))


def extract_feature_map(
    backbone: nn.Module, images: Tensor, layer: str | None = None, call: FeatureFn | None = None
) -> Tensor:
    """Features of square images, place by place: the map of a CNN, the patch tokens of a ViT.

    Args:
        backbone: takes (B, 3, H, W).
        images: (B, 3, S, S).
        layer: as for `extract_features`.
        call: as for `extract_features`.

    Returns:
        (B, D, h, w).

    Raises:
        ConfigError: no such layer, or the features are pooled already.

    >>> import torch
    >>> extract_feature_map(nn.Conv2d(3, 8, 3), torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8, 14, 14])
    """
    features = _features(_call_backbone(backbone, images, layer, call), "mean")
    if features.ndim == 2:
        raise ConfigError("layer: the backbone pools its features, takes a layer that gives a map")
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if _is_nhwc(features) else features
    prefix = _num_prefix_tokens(features.shape[1], getattr(backbone, "num_prefix_tokens", None))
    side = math.isqrt(features.shape[1] - prefix)
    patches = features[:, prefix:].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], side, side)


def _call_backbone(
    backbone: nn.Module, images: Tensor, layer: str | None, call: FeatureFn | None
) -> Any:
    if layer is not None:
        return _output_of(backbone, images, layer, call or nn.Module.__call__)
    if call is not None:
        return call(backbone, images)
    if callable(features := getattr(backbone, "forward_features", None)):
        return features(images)
    return backbone(images)


def _output_of(backbone: nn.Module, images: Tensor, layer: str, call: FeatureFn) -> Any:
    parts = dict(backbone.named_modules())
    if layer not in parts:
        raise ConfigError(f"layer: the backbone has no {layer!r}; {did_you_mean(layer, parts)}")
    kept: list[Any] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        kept.append(output)
        raise _StopForward

    handle = parts[layer].register_forward_hook(keep)
    try:
        call(backbone, images)
    except _StopForward:
        pass
    finally:
        handle.remove()
    if not kept:
        raise ConfigError(f"layer: the backbone's forward pass never calls {layer!r}")
    return kept[0]


def pool_features(output: Any, pool: str = "mean", prefix: int | None = None) -> Tensor:
    """Features (B, D) out of a backbone's output for square images.

    Args:
        output: (B, D), (B, N, D), (B, C, H, W), (B, H, W, C), a tuple, list or dict of these.
        pool: ``mean`` of the patch tokens, or the ``cls`` token, where there are tokens.
        prefix: how many tokens come before the patch tokens; None: found from their number.

    Returns:
        (B, D).

    Raises:
        ConfigError: nothing in the output can be pooled.

    >>> import torch
    >>> pooled(torch.ones(2, 5, 8)).shape, pooled((torch.ones(2, 8, 4, 4), None)).shape
    (torch.Size([2, 8]), torch.Size([2, 8]))
    """
    features = _features(output, pool)
    if features.ndim == 2:
        return features
    if features.ndim == 4:
        return _mean_of_map(features)
    return _pool_tokens(features, pool, prefix)


def _features(output: Any, pool: str) -> Tensor:
    """The one tensor to pool, out of what the backbone returned."""
    if isinstance(output, Mapping):
        order = (*_CLASS_KEYS, *_KEYS) if pool == "cls" else (*_KEYS, *_CLASS_KEYS)
        known = [output[key] for key in order if output.get(key) is not None]
        return _features(known[0] if known else list(output.values()), pool)
    if isinstance(output, Tensor):
        if output.is_floating_point() and 2 <= output.ndim <= 4:
            return output
        raise ConfigError(f"backbone: cannot pool an output of shape {tuple(output.shape)}")
    found: list[Tensor] = list(_tensors(output))
    if not found:
        raise ConfigError(f"backbone: no features in an output of type {type(output).__name__}")
    # The most spatial tensor, and of several the last: the deepest of a list of stages, the
    # latent of MAE's (latent, mask, ids), the tokens of (tokens, class token).
    ndim = max(t.ndim for t in found)
    spatial = [t for t in found if t.ndim == ndim][-1]
    if pool == "mean":
        return spatial
    # A class token is as wide as the patches' features; MAE's mask (B, N) is not.
    widths = spatial.shape[1::2] if ndim == 4 else spatial.shape[-1:]
    classes = [t for t in found if t.ndim == 2 and t.shape[1] in widths]
    return classes[-1] if classes else spatial


def _tensors(output: Any) -> Any:
    if isinstance(output, Tensor):
        if output.is_floating_point() and 2 <= output.ndim <= 4:
            yield output
    elif isinstance(output, Mapping):
        yield from _tensors(list(output.values()))
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item)


def _mean_of_map(features: Tensor) -> Tensor:
    return features.mean(dim=(1, 2) if _is_nhwc(features) else (2, 3))


def _is_nhwc(features: Tensor) -> bool:
    """Whether a map is (B, H, W, C), as Swin and its kin have it in timm."""
    _, first, second, third = features.shape
    return first == second != third


def _is_square(count: int) -> bool:
    return math.isqrt(count) ** 2 == count


def _pool_tokens(tokens: Tensor, pool: str, prefix: int | None) -> Tensor:
    prefix = _num_prefix_tokens(tokens.shape[1], prefix)
    if pool == "cls":
        if prefix == 0:
            raise ConfigError(_NO_CLASS)
        return tokens[:, 0]
    return tokens[:, prefix:].mean(dim=1)


def _num_prefix_tokens(count: int, prefix: int | None) -> int:
    """How many of the tokens come before the patch tokens."""
    if prefix is None or prefix >= count or not _is_square(count - prefix):
        return count - math.isqrt(count) ** 2
    return prefix
