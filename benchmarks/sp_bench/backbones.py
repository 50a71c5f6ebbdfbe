"""Backbones: small ones for small images, torchvision's ResNets, and any model of timm."""

from __future__ import annotations

import timm
import torch
import torchvision
from timm.layers import Attention
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sp_bench.errors import UsageError
from sp_plugin.validation import did_you_mean

_TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
SMALL = ("tiny_resnet", "tiny_vit")


def make_backbone(name: str, side: int, channels: int = 3) -> nn.Module:
    """Backbone with random weights (from the global generator) and without a classifier.

    Args:
        name: ``tiny_resnet`` (1.2 million parameters), ``tiny_vit`` (patches of 8 px, 2.7 million),
            a ResNet of torchvision, or a model of timm.
        side: side of the views in pixels.
        channels: number of channels C of the views.

    Returns:
        Module from (B, C, side, side) to pooled features (B, D).

    Raises:
        UsageError: the name is unknown, with the nearest name; or timm cannot build the model at
            this size, or for this number of channels.

    >>> import torch
    >>> make_backbone("tiny_resnet", 32)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 256])
    """
    if name == "tiny_resnet":
        return _tiny_resnet(channels)
    if name == "tiny_vit":
        return _tiny_vit(side, channels)
    if name in _TORCHVISION:
        return _torchvision_resnet(name, side, channels)
    return _timm(name.removeprefix("timm:"), side, channels)


def is_vit(backbone: nn.Module) -> bool:
    """Whether a backbone is a plain ViT of timm, which MAE can mask."""
    return isinstance(backbone, VisionTransformer)


def unfuse_attention_on_cpu(module: nn.Module) -> None:
    """Compute timm's attention as matrix products if there is no GPU, in place.

    On a CPU in bfloat16 torch's fused kernel takes several times as long, most of all in the
    backward pass and with the few tokens of small images.
    """
    if torch.cuda.is_available():
        return
    for part in module.modules():
        if isinstance(part, Attention):
            part.fused_attn = False


def _tiny_resnet(channels: int) -> nn.Module:
    # One block per stage, a stem of three 3x3 convolutions without pooling: 64 px give a map of
    # 4 x 4.
    net = ResNet(
        BasicBlock,
        layers=(1, 1, 1, 1),
        in_chans=channels,
        channels=(32, 64, 128, 256),
        stem_type="deep",
        stem_width=16,
        num_classes=0,
    )
    net.maxpool = nn.Identity()
    return net


def _tiny_vit(side: int, channels: int) -> nn.Module:
    patch_size = 8
    return VisionTransformer(
        img_size=max(patch_size, round(side / patch_size) * patch_size),
        patch_size=patch_size,
        in_chans=channels,
        embed_dim=192,
        depth=6,
        num_heads=3,
        num_classes=0,
        dynamic_img_size=True,
    )


def _torchvision_resnet(name: str, side: int, channels: int) -> nn.Module:
    net = torchvision.models.get_model(name, weights=None)
    net.fc = nn.Identity()
    if side <= 32:  # as SimCLR does for CIFAR (Chen et al. 2020, appendix B.9)
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif channels != net.conv1.in_channels:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return net


def _timm(name: str, side: int, channels: int) -> nn.Module:
    if not timm.is_model(name):
        known = [*SMALL, *_TORCHVISION, *timm.list_models()]
        short = f"takes {', '.join((*SMALL, *_TORCHVISION))}, or a model name of timm"
        raise UsageError(f"backbone: no {name!r}; {did_you_mean(name, known, short)}")
    for options in ({"img_size": side, "dynamic_img_size": True}, {"img_size": side}, {}):
        try:
            return timm.create_model(
                name, pretrained=False, num_classes=0, in_chans=channels, **options
            )
        except (TypeError, AssertionError, RuntimeError):
            continue  # not every model takes a size, and fewer take any size
    what = f"{channels} channels" if channels != 3 else f"{side} px"
    raise UsageError(f"backbone: timm cannot build {name!r} for views of {what}")
