"""Where the ready recipes (``configs/``) stand: in the wheel, or in a checkout."""

from __future__ import annotations

from pathlib import Path

from sp_plugin.validation import ConfigError, did_you_mean

_HERE = Path(__file__).parent


def folder(host: str) -> Path:
    """The folder of a host's recipes, such as ``solo`` or ``mmselfsup``.

    Raises:
        ConfigError: there are none for it; with the nearest name.

    >>> folder("solo").is_dir()
    True
    """
    shipped = _HERE / "configs"
    root = shipped if shipped.is_dir() else _HERE.parent / "configs"
    if (root / host).is_dir():
        return root / host
    raise ConfigError(f"recipes: there are none for {host!r}; {did_you_mean(host, _names(root))}")


def _names(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.is_dir()]
