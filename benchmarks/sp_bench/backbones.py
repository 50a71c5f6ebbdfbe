"""Backbones by name: small ones of sp-bench, and models of torchvision, timm and Hugging Face."""

from __future__ import annotations

from typing import Any, NamedTuple

import timm
import torchvision
from timm.data import resolve_data_config
from timm.layers import Attention
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sp_bench import hugging_face
from sp_bench.data.channel_stats import ChannelStats
from sp_bench.errors import UsageError
from sp_bench.published_models import build_timm, build_torchvision, reading
from sp_plugin.structures import RGB_CHANNELS
from sp_plugin.validation import did_you_mean

_TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
SMALL = ("tiny_resnet", "tiny_vit")
SOURCES = ("timm", "torchvision", "hf")


class ModelInput(NamedTuple):
    """Images that a pretrained model was trained for, by its own config.

    Attributes:
        side: side of the images in pixels.
        stats: mean and standard deviation of each channel.
    """

    side: int
    stats: ChannelStats


def make_backbone(
    name: str, side: int, channels: int = RGB_CHANNELS, *, pretrained: bool = False
) -> nn.Module:
    """Backbone without a classifier, with random weights (from the global generator) by default.

    Args:
        name: ``tiny_resnet`` (1.2 million parameters), ``tiny_vit`` (patches of 8 px, 2.7 million),
            a ResNet of torchvision with a stem for ``side``, a model of timm, or a name with its
            source: ``timm:NAME``, ``torchvision:NAME``, ``hf:NAME`` of Hugging Face's hub or
            ``hf:FOLDER``.
        side: side of the views in pixels.
        channels: number of channels C of the views.
        pretrained: whether the weights are those that the model is published with. Files are read
            as weights only.

    Returns:
        Module from (B, C, side, side) to features: pooled (B, D), except for ``hf:``, whose output
        is that of ``AutoModel``.

    Raises:
        UsageError: the name is unknown, with the nearest name; the model cannot be built at this
            size or for this number of channels; or its weights cannot be loaded.

    >>> import torch
    >>> make_backbone("tiny_resnet", 32)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 256])
    """
    source, own_name = split_name(name)
    if pretrained:
        _require_weights(name, source)
    if own_name == "tiny_resnet":
        return _tiny_resnet(channels)
    if own_name == "tiny_vit":
        return _tiny_vit(side, channels)
    if source == "hf":
        with reading(name):
            return hugging_face.build(own_name, channels, pretrained)
    if source == "torchvision":
        return build_torchvision(own_name, channels, pretrained)
    if not source and own_name in _TORCHVISION:
        return _resnet_for_side(own_name, side, channels)
    return build_timm(own_name, side, channels, pretrained)


def split_name(name: str) -> tuple[str, str]:
    """Source (empty: none is given) and the model's name there, after a check that it is known.

    Raises:
        UsageError: it is not, with the nearest name.

    >>> split_name("timm:resnet18"), split_name("tiny_vit")
    (('timm', 'resnet18'), ('', 'tiny_vit'))
    >>> split_name("torchvison:resnet18")
    Traceback (most recent call last):
    sp_bench.errors.UsageError: backbone: no source 'torchvison'; did you mean 'torchvision'?
    """
    source, colon, own_name = name.partition(":")
    if not colon:
        source, own_name = "", name
    elif source not in SOURCES:
        raise UsageError(f"backbone: no source {source!r}; {did_you_mean(source, SOURCES)}")
    if source == "hf":
        hugging_face.check_name(own_name)
        return source, own_name
    if source == "torchvision":
        known = torchvision.models.list_models(module=torchvision.models)
    elif source == "timm" or own_name not in (*SMALL, *_TORCHVISION):
        if timm.is_model(own_name) and "." not in own_name:
            return source, own_name
        known = [*timm.list_models(), *timm.list_pretrained()]
        known += [] if source else [*SMALL, *_TORCHVISION]
    else:
        return source, own_name
    if own_name not in known:
        short = "takes a name of torchvision.models.list_models()"
        if source != "torchvision":
            short = f"takes {', '.join((*SMALL, *_TORCHVISION))}, or a model name of timm"
        raise UsageError(f"backbone: no {own_name!r}; {did_you_mean(own_name, known, short)}")
    return source, own_name


def model_input(name: str) -> ModelInput:
    """Image size and normalisation of the published weights, by the model's own config.

    Args:
        name: as for `make_backbone`, of a model with published weights.

    Raises:
        UsageError: there are none, or the config cannot be loaded.

    >>> model_input("timm:vit_small_patch14_dinov2.lvd142m").side
    518
    """
    source, own_name = split_name(name)
    _require_weights(name, source)
    if source == "hf":
        with reading(name):
            side, mean, std = hugging_face.read_input(own_name)
    elif source == "torchvision":
        preset: Any = torchvision.models.get_model_weights(own_name).DEFAULT.transforms()
        side, mean, std = preset.crop_size[0], preset.mean, preset.std
    else:
        config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(own_name).to_dict())
        side, mean, std = config["input_size"][-1], config["mean"], config["std"]
    return ModelInput(side, ChannelStats(tuple(mean), tuple(std)))


def with_source(name: str) -> str:
    """Name with the source of its published weights; unchanged where it has one, or has no weights.

    >>> with_source("resnet50"), with_source("vit_tiny_patch16_224"), with_source("tiny_vit")
    ('torchvision:resnet50', 'timm:vit_tiny_patch16_224', 'tiny_vit')
    """
    if ":" in name or name in SMALL:
        return name
    return f"{'torchvision' if name in _TORCHVISION else 'timm'}:{name}"


def is_vit(backbone: nn.Module) -> bool:
    """Whether a backbone is a plain ViT of timm, which MAE can mask."""
    return isinstance(backbone, VisionTransformer)


def set_fused_attention(module: nn.Module, fused: bool) -> None:
    """Compute timm's attention by torch's fused kernel, or as matrix products, in place."""
    for part in module.modules():
        if isinstance(part, Attention):
            part.fused_attn = fused


def _require_weights(name: str, source: str) -> None:
    if not source:
        takes = ", ".join(f"{known}:NAME" for known in SOURCES)
        raise UsageError(f"pretrained: there are no weights for {name!r}; takes {takes}")


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


def _resnet_for_side(name: str, side: int, channels: int) -> nn.Module:
    net = torchvision.models.get_model(name, weights=None)
    net.fc = nn.Identity()
    if side <= 32:  # as SimCLR does for CIFAR (Chen et al. 2020, appendix B.9)
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif channels != net.conv1.in_channels:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return net
