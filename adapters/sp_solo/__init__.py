"""Spatial Prediction for solo-learn: ``++sp.enabled=true`` at the end of the usual command.

hydra finds `hydra_plugins.sp_solo_plugin`, which calls `install`; no file of solo-learn changes.
"""

from pathlib import Path

from sp_plugin import ConfigError
from sp_plugin.bundled_configs import folder
from sp_solo.method_factory import Switch, install

__all__ = ["ConfigError", "Switch", "install", "recipes"]


def recipes() -> Path:
    """Folder of the shipped recipes: the config group ``sp`` and ready comparisons."""
    return folder("solo")
