"""MethodFactory in solo-learn's METHODS: builds a method, with SP where ``cfg.sp`` says so."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from typing import Any

from omegaconf import DictConfig

from sp_plugin import ConfigError
from sp_solo import config as sp_config

log = logging.getLogger("sp_plugin")

_REPOSITORY = "https://github.com/vturrisi/solo-learn"


class MethodFactory:
    """Takes the place of a method in METHODS, and builds it.

    SP is added by Lightning's own hook for it, ``configure_callbacks``: the model is of the
    method's own class, and its state dict is that of a plain run.

    Args:
        method: class that METHODS had.
    """

    def __init__(self, method: type) -> None:
        self.method = method

    def __call__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> Any:
        config, probe_config = sp_config.read(cfg), sp_config.read_probe(cfg)  # before all else
        model = self.method(cfg, *args, **kwargs)
        if config is not None:
            config = sp_config.resolve(config, cfg, model.backbone)
            from sp_lightning import SPCallback  # of the Lightning that solo-learn has loaded

            callback = SPCallback(backbone="backbone", config=config)
            callback.announce = _print_status
            _add_callback(model, callback)
        if probe_config is not None:
            from sp_lightning import SpatialProbeCallback

            _add_callback(model, SpatialProbeCallback("backbone", probe_config))
        sp_config.write(config, cfg)
        return model

    def __getattr__(self, name: str) -> Any:
        if name == "method":  # not set yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.method, name)

    def __repr__(self) -> str:
        return f"MethodFactory({self.method!r})"


def register() -> None:
    """Put a `MethodFactory` in place of every pre-training method of the loaded solo-learn.

    Once; factories that are there already stay. ``linear`` trains no backbone and stays as it is.

    Raises:
        ConfigError: a solo-learn from before its hydra configs (1.0.2 of 2021 on the package
            index).
    """
    solo_methods = sys.modules["solo.methods"]
    if "cfg" not in inspect.signature(solo_methods.BaseMethod.__init__).parameters:
        raise ConfigError(
            "solo-learn: this one has no hydra configs (the package index holds 1.0.2 of 2021); "
            f"SP takes 1.0.6, from {_REPOSITORY}"
        )
    for name, method in solo_methods.METHODS.items():
        if name != "linear" and not isinstance(method, MethodFactory):
            solo_methods.METHODS[name] = MethodFactory(method)
    _patch_auto_resume()


def _patch_auto_resume() -> None:
    """Let auto-resume distinguish a run with SP from one without, and from one with other settings.

    It compares the settings in AutoResumer.SHOULD_MATCH (solo/utils/auto_resumer.py), which do not
    include SP's: under one name a run with SP would resume from a baseline's checkpoint.
    """
    resumer = getattr(sys.modules.get("solo.utils.auto_resumer"), "AutoResumer", None)
    if resumer is not None and "sp" not in resumer.SHOULD_MATCH:
        resumer.SHOULD_MATCH.append("sp")
        log.info("SP: solo-learn's auto-resume compares the sp settings too")


def _add_callback(model: Any, callback: Any) -> None:
    model.configure_callbacks = functools.partial(
        _with_callback, model.configure_callbacks, callback
    )


def _with_callback(original: Any, callback: Any) -> list[Any]:
    callbacks = original()
    return [*(callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]), callback]


def _print_status(line: str) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    # Printed, like other lines that a user must see: solo-learn's configs switch logging off.
    if rank_zero_only.rank == 0:
        print(line)
