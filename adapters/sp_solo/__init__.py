"""Spatial Prediction for solo-learn: ``++sp.enabled=true`` at the end of the usual command.

hydra finds `hydra_plugins.sp_solo_plugin`, which calls `register`; no file of solo-learn changes.
"""

from pathlib import Path

from sp_plugin import ConfigError
from sp_plugin.bundled_configs import folder
from sp_plugin.validation import needs_packages

with needs_packages("sp_solo", "sp-plugin[solo]"):
    from sp_solo.method_factory import MethodFactory, register

__all__ = ["ConfigError", "MethodFactory", "configs", "register"]


def configs() -> Path:
    """Folder of the bundled configs: the config group ``sp`` and ready comparisons."""
    return folder("solo")
