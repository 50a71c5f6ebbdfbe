"""Small backbones of each kind, for images of any number of channels and of any shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
from torch import nn

CHANNELS = (1, 2, 3, 4, 6, 13)


def _timm(name: str, in_chans: int, **settings: object) -> nn.Module:
    return timm.create_model(
        name, pretrained=False, num_classes=0, in_chans=in_chans, drop_path_rate=0.2, **settings
    )


def _resnet(channels: int, size: tuple[int, int]) -> nn.Module:
    return _timm("resnet10t", channels, channels=(4, 8, 8, 16), stem_width=4)


def _vit(channels: int, size: tuple[int, int], **settings: object) -> nn.Module:
    return _timm(
        "vit_tiny_patch16_224", channels, img_size=size, patch_size=8, embed_dim=24, depth=1,
        num_heads=2, **settings,
    )  # fmt: skip


def _dynamic_vit(channels: int, size: tuple[int, int]) -> nn.Module:
    return _vit(channels, size, dynamic_img_size=True, reg_tokens=4)


def _convnext(channels: int, size: tuple[int, int]) -> nn.Module:
    return _timm("convnext_atto", channels, depths=(1, 1, 1, 1), dims=(4, 8, 8, 16))


def _swin(channels: int, size: tuple[int, int]) -> nn.Module:
    return _timm(
        "swin_tiny_patch4_window7_224", channels, img_size=size, patch_size=4, window_size=2,
        embed_dim=8, depths=(1, 1), num_heads=(1, 1),
    )  # fmt: skip


# Name, and a function of channels and (height, width) of the views.
BACKBONES: dict[str, Callable[[int, tuple[int, int]], nn.Module]] = {
    "ResNet": _resnet,
    "ViT, fixed size": _vit,
    "ViT, any size": _dynamic_vit,
    "ConvNeXt": _convnext,
    "Swin, fixed size": _swin,
}


def cases(*quick: tuple[str, int]) -> list[Any]:
    """Each backbone with each number of channels; all but the quick ones are marked as slow."""
    return [
        pytest.param(name, channels, marks=[] if (name, channels) in quick else [pytest.mark.slow])
        for name in BACKBONES
        for channels in CHANNELS
    ]
