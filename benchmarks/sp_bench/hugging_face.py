"""Models of Hugging Face's transformers, by the name on the hub or from a local folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from sp_bench.data.channel_stats import IMAGENET
from sp_bench.errors import UsageError
from sp_plugin.validation import did_you_mean, needs_packages

_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_DEFAULT_SIDE = 224
_NEW_PARTS = ("pooler",)  # on top of the features; self-supervised models are published without


def check_name(name: str) -> None:
    """Check that a name is a folder or can be a name on the hub.

    Raises:
        UsageError: it is neither, with the nearest folder.

    >>> check_name("./no/such")
    Traceback (most recent call last):
    sp_bench.errors.UsageError: backbone: hf:./no/such: there is no such folder; takes ...
    """
    folder = Path(name).expanduser()
    if folder.is_dir() or _HUB_NAME.fullmatch(name):
        return
    near = [str(path) for path in folder.parent.glob("*/") if path.is_dir()]
    hint = did_you_mean(str(folder), near, "takes a folder with config.json, or a name on the hub")
    raise UsageError(f"backbone: hf:{name}: there is no such folder; {hint}")


def build(name: str, channels: int, pretrained: bool) -> nn.Module:
    """Model without a head, with its pretrained or with random weights, in float32.

    Files are read as weights only and no code of the model's author runs. Of models for images and
    text it is the part for images. A ViTMAE sees all patches, in their order.

    Args:
        name: name on the hub, or a folder, which is read without any request.
        channels: number of channels of the images.
        pretrained: whether its weights are loaded.

    Raises:
        UsageError: it takes another number of channels, or the weights lack some of its parts.
    """
    with needs_packages(f"backbone hf:{name}", "sp-plugin[transformers]"):
        from transformers import AutoConfig, AutoModel

    where, options = _place(name)
    config = AutoConfig.from_pretrained(where, **options)
    vision = getattr(config, "vision_config", config)
    if getattr(vision, "num_channels", channels) != channels:
        raise UsageError(
            f"backbone: hf:{name} takes {vision.num_channels} channels, got {channels}"
        )
    if not pretrained:
        return _vision_part(AutoModel.from_config(config))
    model, loading = AutoModel.from_pretrained(
        where, dtype=torch.float32, output_loading_info=True, **options
    )
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith(_NEW_PARTS))
    if missing:
        raise UsageError(
            f"backbone: hf:{name} lacks {len(missing)} weights of {type(model).__name__}, "
            f"such as {missing[0]}"
        )
    return _vision_part(model)


def read_input(name: str) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Side in pixels, mean and standard deviation, by the image processor's config.

    Without one: the config's image size, and ImageNet's statistics. Of a model of timm: by timm's
    config.

    Raises:
        UsageError: the model takes BGR images.
    """
    with needs_packages(f"backbone hf:{name}", "sp-plugin[transformers]"):
        from transformers import AutoConfig, AutoImageProcessor

    where, options = _place(name)
    config = AutoConfig.from_pretrained(where, **options)
    if timm_config := getattr(config, "pretrained_cfg", None):
        data = resolve_data_config(pretrained_cfg=timm_config)
        return data["input_size"][-1], tuple(data["mean"]), tuple(data["std"])
    side = getattr(getattr(config, "vision_config", config), "image_size", None)
    try:
        values = AutoImageProcessor.from_pretrained(where, **options).to_dict()
    except (OSError, ValueError):
        values = {}
    size = (values.get("do_center_crop") and values.get("crop_size")) or values.get("size") or {}
    side = size.get("height") or size.get("shortest_edge") or side or _DEFAULT_SIDE
    side = side if isinstance(side, int) else side[0]
    if values.get("do_flip_channel_order"):
        raise UsageError(f"backbone: hf:{name} takes BGR images, got RGB; takes timm:NAME instead")
    if values and not values.get("do_normalize"):
        return side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, std = values.get("image_mean") or IMAGENET.mean, values.get("image_std") or IMAGENET.std
    return side, tuple(mean), tuple(std)


def _place(name: str) -> tuple[str, dict[str, Any]]:
    """Where the model is, and the options of its reader: a folder is read without the network."""
    folder = Path(name).expanduser()
    local = folder.is_dir()
    return str(folder if local else name), {"local_files_only": local, "trust_remote_code": False}


def _vision_part(model: nn.Module) -> nn.Module:
    part: Any = getattr(model, "vision_model", model)
    if getattr(getattr(part, "config", None), "model_type", "") == "vit_mae":
        # It masks and shuffles its patches in evaluation mode too.
        part.config.mask_ratio = 0.0
        part.register_forward_pre_hook(_keep_order, with_kwargs=True)
    whole: nn.Module = part
    return whole


def _keep_order(mae: Any, args: tuple[Tensor], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Hook of a ViTMAE, which sorts its patches by ``noise`` (B, N)."""
    order = torch.arange(float(mae.embeddings.patch_embeddings.num_patches), device=args[0].device)
    return args, {**kwargs, "noise": order.expand(len(args[0]), -1)}
