"""The ``sp`` block of a solo-learn config: read, checked, and written back resolved."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from sp_plugin import ConfigError, SPConfig
from sp_plugin.features.input_size import find_input_size
from sp_plugin.validation import boolean, did_you_mean

_NAMES = ("enabled", *(field.name for field in dataclasses.fields(SPConfig)))


def read(cfg: DictConfig) -> SPConfig | None:
    """The settings of SP in ``cfg.sp``; None where there are none, or ``enabled`` is false.

    Raises:
        ConfigError: a key or a value that SP does not take, by its name on the command line.

    >>> read(OmegaConf.create({"sp": {"weight": 0.5}})).weight
    0.5
    >>> read(OmegaConf.create({"sp": {"enable": True}}))
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: sp.enable: no such setting of SP; did you mean 'enabled'?
    """
    block = OmegaConf.select(cfg, "sp")
    if block is None:
        return None
    if not isinstance(block, DictConfig):
        raise ConfigError(f"sp: got {block!r}, takes a block of settings, as in ++sp.enabled=true")
    given: dict[str, Any] = {str(key): value for key, value in _plain(block).items()}
    for key in given:
        if key not in _NAMES:
            raise ConfigError(f"sp.{key}: no such setting of SP; {did_you_mean(key, _NAMES)}")
    enabled = boolean("sp.enabled", given.pop("enabled", True))
    try:
        config = SPConfig.from_dict(given)
    except ConfigError as error:
        raise ConfigError(f"sp.{error}") from None
    return config if enabled else None


def resolve(config: SPConfig, cfg: DictConfig, backbone: nn.Module) -> SPConfig:
    """Nothing left open: for this backbone, and views of the first augmentation's size.

    Raises:
        ConfigError: ``source=host_views`` with a method or augmentations that have no two views for it.
    """
    if config.source != "view" and OmegaConf.select(cfg, "data.format") == "dali":
        warnings.warn("SP: source is 'view', DALI hands out no images to crop", stacklevel=2)
        config = dataclasses.replace(config, source="view")
    if config.source == "host":
        _check_views(cfg)
    settled = config.resolve(frame=cfg.augmentations[0].crop_size)
    size = find_input_size(backbone, settled.crop_size, settled.pool, settled.layer).input_size
    return dataclasses.replace(settled, crop_size=size)


def _check_views(cfg: DictConfig) -> None:
    """Before the data are read; what the method does with its views is seen in the first step."""
    why = None
    sizes: Counter[int] = Counter()
    for augmentation in cfg.augmentations:
        sizes[augmentation.crop_size] += augmentation.num_crops
    if cfg.method == "mae":
        why = "mae's backbone is shown a masked image"
    elif max(sizes.values()) < 2:
        why = "the augmentations make no two views of one size"
    elif not any(augmentation.rrc.enabled for augmentation in cfg.augmentations):
        why = "the augmentations crop nothing (rrc.enabled is false)"
    if why:
        raise ConfigError(f"sp.source: got 'host_views', but {why}; take view or image")


def write(config: SPConfig | None, cfg: DictConfig) -> None:
    """Let the config say what was used: solo-learn keeps it in ``args.json`` and the logger.

    A run without SP says nothing of it, whether SP was never named or switched off.
    """
    with open_dict(cfg):
        if config is not None:
            cfg.sp = {"enabled": True, **config.asdict()}
        elif "sp" in cfg:
            del cfg["sp"]


def _plain(block: DictConfig) -> dict[Any, Any]:
    plain: Any = OmegaConf.to_container(block, resolve=True)
    return plain
