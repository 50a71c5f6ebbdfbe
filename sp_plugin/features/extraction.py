"""Extraction: pooled features (B, D) of images, from any backbone.

The features are those before the method's projector. Where they are in the backbone's output is a
`sp_plugin.features.layout.FeatureLayout`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from torch import Tensor, nn

from sp_plugin.features.backbone_call import (
    FeatureFn,
    call_backbone,
    call_feature_module,
    unmasked,
)
from sp_plugin.features.layout import NO_CLASS_TOKEN, FeatureLayout, layout_of
from sp_plugin.features.prefix_tokens import declared_prefix
from sp_plugin.validation import ConfigError

__all__ = [
    "extract_feature_map",
    "extract_features",
    "pool_features",
]


def extract_features(
    backbone: nn.Module,
    images: Tensor,
    pool: str = "mean",
    layer: str | None = None,
    feature_fn: FeatureFn | None = None,
    layout: FeatureLayout | None = None,
) -> Tensor:
    """Pooled features of images; without a ``layout`` of square ones.

    How the backbone is called: `sp_plugin.features.backbone_call.call_backbone`.

    Args:
        backbone: module that takes (B, C, H, W).
        images: (B, C, H, W).
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
    if layout is None:
        output = call_backbone(backbone, images, layer, feature_fn)
        return pool_features(output, pool, declared_prefix(backbone))
    if layout.calls_module:
        feature_fn = feature_fn or call_feature_module
    with unmasked(backbone) if layout.is_masked else contextlib.nullcontext():
        output = call_backbone(backbone, images, layer, feature_fn)
    return layout.pool(output, pool, backbone.training)


def extract_feature_map(backbone: nn.Module, images: Tensor, layer: str | None = None) -> Tensor:
    """Spatial features of square images: the map of a CNN, the patch tokens of a ViT.

    Args:
        backbone: module that takes (B, C, H, W).
        images: (B, C, S, S).
        layer: as for `extract_features`.

    Returns:
        (B, D, h, w).

    Raises:
        ConfigError: no such layer, or the features are pooled already.

    >>> import torch
    >>> extract_feature_map(nn.Conv2d(3, 8, 3), torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8, 14, 14])
    """
    output = call_backbone(backbone, images, layer, None)
    return layout_of(output, "mean", declared_prefix(backbone)).to_map(output)


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
