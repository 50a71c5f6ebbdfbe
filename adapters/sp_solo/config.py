"""The ``sp`` block of a solo-learn config: read, checked, resolved, and written back."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from sp_plugin import ConfigError, SPConfig
from sp_plugin.features.input_size import find_input_size
from sp_plugin.validation import boolean

_SWITCHES = {"enabled": True, "probe": False}  # of the block, with their defaults


def read(cfg: DictConfig) -> SPConfig | None:
    """Settings of SP in ``cfg.sp``; None where there are none, or ``enabled`` is false.

    Raises:
        ConfigError: an unknown key or a bad value, by its name on the command line.

    >>> read(OmegaConf.create({"sp": {"weight": 0.5}})).weight
    0.5
    >>> read(OmegaConf.create({"sp": {"wieght": 1}}))
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: sp.wieght: no such setting of SP; did you mean 'weight'?
    """
    return _read_if("enabled", cfg)


def read_probe(cfg: DictConfig) -> SPConfig | None:
    """Settings for a spatial probe; None unless ``cfg.sp.probe`` is true. SP itself may be off.

    Raises:
        ConfigError: as for `read`.

    >>> read_probe(OmegaConf.create({"sp": {"enabled": False, "probe": True}})).num_crops
    4
    """
    return _read_if("probe", cfg)


def _read_if(switch: str, cfg: DictConfig) -> SPConfig | None:
    block = OmegaConf.select(cfg, "sp")
    if block is None:
        return None
    if not isinstance(block, DictConfig):
        raise ConfigError(f"sp: got {block!r}, takes a block of settings, as in ++sp.enabled=true")
    container: Any = OmegaConf.to_container(block, resolve=True)
    settings = {str(key): value for key, value in container.items()}
    switches = {
        name: boolean(f"sp.{name}", settings.pop(name, on)) for name, on in _SWITCHES.items()
    }
    try:
        config = SPConfig.from_dict(settings, extra_names=tuple(_SWITCHES))
    except ConfigError as error:
        raise ConfigError(f"sp.{error}") from None
    return config if switches[switch] else None


def resolve(config: SPConfig, cfg: DictConfig, backbone: nn.Module) -> SPConfig:
    """Settings with none left open, for this backbone and the size of the first augmentation.

    Raises:
        ConfigError: ``source=host_views`` with a method or augmentations that have no two views
            for it.
    """
    if config.source != "view" and OmegaConf.select(cfg, "data.format") == "dali":
        warnings.warn("SP: source is 'view', DALI gives no images to crop", stacklevel=2)
        config = dataclasses.replace(config, source="view")
    if config.source == "host_views":
        _check_views(cfg)
    resolved = config.resolve(cfg.augmentations[0].crop_size)
    spec = find_input_size(backbone, resolved.crop_size, resolved.pool, resolved.layer)
    return dataclasses.replace(resolved, crop_size=spec.input_size)


def _check_views(cfg: DictConfig) -> None:
    """Check before the data are read; how the method uses its views is seen in the first step."""
    reason = None
    num_views: Counter[int] = Counter()  # by size
    for augmentation in cfg.augmentations:
        num_views[augmentation.crop_size] += augmentation.num_crops
    if cfg.method == "mae":
        reason = "mae's backbone gets masked images"
    elif max(num_views.values()) < 2:
        reason = "the augmentations make no two views of one size"
    elif not any(augmentation.rrc.enabled for augmentation in cfg.augmentations):
        reason = "the augmentations crop nothing (rrc.enabled is false)"
    if reason:
        raise ConfigError(f"sp.source: got 'host_views', but {reason}; take view or image")


def write(config: SPConfig | None, cfg: DictConfig) -> None:
    """Write the settings in use into the config, which solo-learn saves in ``args.json``.

    For a run without SP the block is removed, whether SP was switched off or never named. A spatial
    probe is no setting of the training, which is the same without it, and is not written.
    """
    with open_dict(cfg):
        if config is not None:
            cfg.sp = {"enabled": True, **config.asdict()}
        elif "sp" in cfg:
            del cfg["sp"]
