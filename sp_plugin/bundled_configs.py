"""Ready configs (``configs/``), in the installed package or in a checkout."""

from __future__ import annotations

from pathlib import Path

from sp_plugin.validation import ConfigError, did_you_mean

__all__ = ["folder"]

_PACKAGE = Path(__file__).parent


def folder(framework: str) -> Path:
    """Folder with the configs of a framework, such as ``solo`` or ``mmselfsup``.

    Raises:
        ConfigError: there is none; with the nearest name.

    >>> folder("solo").is_dir()
    True
    """
    installed = _PACKAGE / "configs"
    root = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    if (root / framework).is_dir():
        return root / framework
    names = [path.name for path in root.iterdir() if path.is_dir()]
    raise ConfigError(
        f"configs: there are none for {framework!r}; {did_you_mean(framework, names)}"
    )
