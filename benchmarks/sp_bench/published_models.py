"""Models of timm and torchvision without their classifier, with random or published weights."""

from __future__ import annotations

import contextlib
import logging
import textwrap
from collections.abc import Iterator
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from sp_bench.errors import UsageError
from sp_plugin.structures import RGB_CHANNELS
from sp_plugin.validation import ConfigError, first_line


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Block that reads a published model; its errors, most of them of the network, are one line.

    Raises:
        UsageError: the model cannot be read; the line names it and says what to do.

    >>> with reading("timm:resnet18"):
    ...     raise OSError("no route to host")
    Traceback (most recent call last):
    sp_bench.errors.UsageError: backbone: 'timm:resnet18' cannot be read: no route to host; ...
    """
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # it logs each of ten attempts to reach a hub that is not there
    try:
        yield
    except (ConfigError, UsageError):
        raise
    # The libraries raise errors of many types: of sockets, of the hub, of files.
    except Exception as error:
        local = "hf:FOLDER" if name.startswith("hf:") else "--checkpoint FILE"
        reason = textwrap.shorten(first_line(error), 150, placeholder=" ...")
        raise UsageError(
            f"backbone: {name!r} cannot be read: {reason}; if its hub cannot be "
            f"reached, give the model from disk, {local}"
        ) from error
    finally:
        hub.setLevel(level)


def build_timm(name: str, side: int, channels: int, pretrained: bool = False) -> nn.Module:
    """Model of timm; its published weights are fitted to the size and the number of channels.

    Args:
        name: name in timm, with or without the tag of its weights.
        side: side of the images in pixels.
        channels: number of channels of the images.
        pretrained: whether its weights are the published ones.

    Raises:
        UsageError: timm cannot build it for such images, or the weights cannot be read.
    """
    what: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    for size in ({"img_size": side, "dynamic_img_size": True}, {"img_size": side}, {}):
        try:
            net = timm.create_model(name, pretrained=False, **what, **size)
        except (TypeError, AssertionError, RuntimeError):
            continue  # not every model takes a size, and fewer take any size
        if pretrained:
            with reading(f"timm:{name}"):
                net = timm.create_model(name, pretrained=True, **what, **size)
        return net
    unusual = f"{channels} channels" if channels != RGB_CHANNELS else f"{side} px"
    raise UsageError(f"backbone: timm cannot build {name!r} for views of {unusual}")


def build_torchvision(name: str, channels: int, pretrained: bool = False) -> nn.Module:
    """Classification model of torchvision, with its last linear layer removed.

    Args:
        name: name in torchvision.
        channels: number of channels of the images, which has to be 3.
        pretrained: whether its weights are the published ones, torchvision's ``DEFAULT``.

    Returns:
        Module from images to pooled features (B, D), or to tokens (B, N, D) for its ViTs.

    Raises:
        UsageError: the images are not RGB, the model ends in no linear layer, or the weights cannot
            be read.

    >>> build_torchvision("mobilenet_v3_small", 3).eval()(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 1024])
    """
    if channels != RGB_CHANNELS:
        raise UsageError(f"backbone: torchvision:{name} takes 3 channels, got {channels}")
    net: Any = torchvision.models.get_model(name, weights=None)
    if pretrained:
        weights: Any = torchvision.models.get_model_weights(name).DEFAULT
        with reading(f"torchvision:{name}"):
            options = {"check_hash": True, "weights_only": True, "map_location": "cpu"}
            net.load_state_dict(weights.get_state_dict(progress=False, **options))
        if hasattr(net, "transform_input"):  # GoogLeNet and Inception normalise for these weights
            net.transform_input = True
    if isinstance(net, VisionTransformer):
        net.heads = nn.Identity()
        net.__class__ = _ViTTokens  # keeps the names of its weights, as a wrapper would not
        return net
    linear = [part for part, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"backbone: torchvision:{name} ends in no linear classifier to remove")
    net.set_submodule(linear[-1], nn.Identity())
    return net


class _ViTTokens(VisionTransformer):
    """ViT of torchvision whose output has all tokens, not the class token alone."""

    num_prefix_tokens = 1

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, 1 + N, D) of images (B, 3, S, S)."""
        patches = self._process_input(x)
        class_token = self.class_token.expand(len(patches), -1, -1)
        tokens: Tensor = self.encoder(torch.cat([class_token, patches], dim=1))
        return tokens
