"""The switch in solo-learn's METHODS: the method as it is, or with SP when ``cfg.sp`` says so."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from typing import Any

from omegaconf import DictConfig
from sp_lightning import SPCallback

from sp_plugin import ConfigError, SPConfig
from sp_solo import config as sp_config

log = logging.getLogger("sp_plugin")

_REPOSITORY = "https://github.com/vturrisi/solo-learn"


class MethodFactory:
    """Stands in METHODS for a method, and builds it.

    SP comes in through Lightning's own hook for it, ``configure_callbacks``: the model is of the
    method's own class, and its state dict is a plain run's.

    Args:
        method: the class that METHODS held.
    """

    def __init__(self, method: type) -> None:
        self.method = method

    def __call__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> Any:
        config = sp_config.read(cfg)  # before anything is built or read
        model = self.method(cfg, *args, **kwargs)
        if config is not None:
            config = sp_config.resolve(config, cfg, model.backbone)
            callback = SPCallback(backbone="backbone", config=config)
            model.configure_callbacks = functools.partial(
                _with_sp, model.configure_callbacks, callback
            )
            _print_status(config)
        sp_config.write(config, cfg)
        return model

    def __getattr__(self, name: str) -> Any:
        if name == "method":  # not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.method, name)

    def __repr__(self) -> str:
        return f"MethodFactory({self.method!r})"


def register() -> None:
    """Put a switch before every pre-training method of the solo-learn that is loaded.

    Once; what stands there already is left. ``linear`` trains no backbone and stays as it is.

    Raises:
        ConfigError: a solo-learn from before its hydra configs (the registry's 1.0.2 of 2021).
    """
    host = sys.modules["solo.methods"]
    if "cfg" not in inspect.signature(host.BaseMethod.__init__).parameters:
        raise ConfigError(
            "solo-learn: this one has no hydra configs (the package index holds 1.0.2 of 2021); "
            f"SP takes 1.0.6, from {_REPOSITORY}"
        )
    for name, method in host.METHODS.items():
        if name != "linear" and not isinstance(method, MethodFactory):
            host.METHODS[name] = MethodFactory(method)
    _patch_auto_resume()


def _patch_auto_resume() -> None:
    """Let auto-resume tell a run with SP from one without, and one SP from another.

    It compares the settings in AutoResumer.SHOULD_MATCH (solo/utils/auto_resumer.py), which
    know nothing of SP: under one name it would hand a baseline's checkpoint to an SP run.
    """
    resumer = getattr(sys.modules.get("solo.utils.auto_resumer"), "AutoResumer", None)
    if resumer is not None and "sp" not in resumer.SHOULD_MATCH:
        resumer.SHOULD_MATCH.append("sp")
        log.info("SP: solo-learn's auto-resume compares the sp settings too")


def _with_sp(original: Any, callback: SPCallback) -> list[Any]:
    own = original()
    return [*(own if isinstance(own, (list, tuple)) else [own]), callback]


def _print_status(config: SPConfig) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    # Printed, as solo-learn does what a user must see: its configs switch all logging off.
    if rank_zero_only.rank == 0:
        asked = f"{config.crop_size} px crops of the {config.source}"
        if config.source == "host":
            asked = "the method's own views"
        print(f"SP is on: {config.describe_weight()}, {asked}")
