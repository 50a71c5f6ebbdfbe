"""Extraction: pooled features (B, D) of images, from any backbone.

The features are those before the method's projector. Where they are in the backbone's output is a
`sp_plugin.features.layout.FeatureLayout`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from sp_plugin.features.layout import NO_CLASS_TOKEN, FeatureLayout, layout_of
from sp_plugin.features.prefix_tokens import declared_prefix
from sp_plugin.validation import ConfigError, did_you_mean

__all__ = [
    "FeatureFn",
    "call_backbone",
    "extract_feature_map",
    "extract_features",
    "find_layer",
    "pool_features",
    "unmasked",
]

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
    layout: FeatureLayout | None = None,
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
        layout: where the features are, from `sp_plugin.features.input_size.find_input_size`; None:
            as far as this output shows it.

    Returns:
        (B, D).

    Raises:
        ConfigError: no such layer, or an output without features.

    >>> import torch
    >>> extract_features(nn.Conv2d(3, 8, 3), torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8])
    """
    if pool == "cls" and getattr(backbone, "cls_token", ...) is None:
        raise ConfigError(NO_CLASS_TOKEN)  # the first token may be a register
    output = _call_whole(backbone, images, layer, feature_fn, layout)
    if layout is None:
        return pool_features(output, pool, declared_prefix(backbone))
    return layout.pool(output, pool, backbone.training)


def extract_feature_map(
    backbone: nn.Module,
    images: Tensor,
    layer: str | None = None,
    feature_fn: FeatureFn | None = None,
    layout: FeatureLayout | None = None,
) -> Tensor:
    """Spatial features of square images: the map of a CNN, the patch tokens of a ViT.

    Args:
        backbone: module that takes (B, 3, H, W).
        images: (B, 3, S, S).
        layer: as for `extract_features`.
        feature_fn: as for `extract_features`.
        layout: as for `extract_features`.

    Returns:
        (B, D, h, w).

    Raises:
        ConfigError: no such layer, or the features are pooled already.

    >>> import torch
    >>> extract_feature_map(nn.Conv2d(3, 8, 3), torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8, 14, 14])
    """
    output = _call_whole(backbone, images, layer, feature_fn, layout)
    layout = layout or layout_of(output, "mean", declared_prefix(backbone))
    return layout.to_map(output)


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
    return layout_of(output, pool, prefix).pool(output, pool)


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


@contextlib.contextmanager
def unmasked(backbone: nn.Module) -> Iterator[bool]:
    """Set every ``mask_ratio`` of a backbone to 0 in the block, and back after it.

    It is an attribute of a part, or of its config (Hugging Face's ViTMAE). The patches may still be
    shuffled.

    Yields:
        Whether there was one above 0.

    >>> mae = nn.Identity()
    >>> mae.mask_ratio = 0.75
    >>> with unmasked(mae):
    ...     mae.mask_ratio
    0.0
    >>> mae.mask_ratio
    0.75
    """
    owners: list[Any] = []
    for part in backbone.modules():
        owners += [part, getattr(part, "config", None)]
    ratios = [(owner, getattr(owner, "mask_ratio", None)) for owner in owners]
    ratios = [(owner, ratio) for owner, ratio in ratios if isinstance(ratio, float) and ratio > 0]
    try:
        for owner, _ in ratios:
            owner.mask_ratio = 0.0
        yield bool(ratios)
    finally:
        for owner, ratio in ratios:
            owner.mask_ratio = ratio


def call_backbone(
    backbone: nn.Module, images: Tensor, layer: str | None, feature_fn: FeatureFn | None
) -> Any:
    """Output of a backbone, or of one of its layers, for images (B, 3, S, S).

    Args:
        backbone: any module.
        images: (B, 3, S, S).
        layer: as for `extract_features`.
        feature_fn: as for `extract_features`.
    """
    if layer is not None:
        return _call_up_to(backbone, images, layer, feature_fn or nn.Module.__call__)
    if feature_fn is not None:
        return feature_fn(backbone, images)
    if callable(forward_features := getattr(backbone, "forward_features", None)):
        return forward_features(images)
    return backbone(images)


def _call_whole(
    backbone: nn.Module,
    images: Tensor,
    layer: str | None,
    feature_fn: FeatureFn | None,
    layout: FeatureLayout | None,
) -> Any:
    """Output for images of which nothing is masked."""
    is_masked = layout is not None and layout.is_masked
    with unmasked(backbone) if is_masked else contextlib.nullcontext():
        return call_backbone(backbone, images, layer, feature_fn)


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
