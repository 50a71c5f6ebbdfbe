"""Paths of configs: those that the installed frameworks ship, and recipes with SP."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sp_plugin import ConfigError, bundled_configs
from sp_plugin.validation import did_you_mean, invalid_value

__all__ = ["FRAMEWORKS", "baseline", "recipe"]

# Folders in the installed packages: MMSelfSup separates pre-training from its benchmarks.
_FOLDERS = {"mmselfsup": ".mim/configs/selfsup", "mmpretrain": ".mim/configs"}
FRAMEWORKS = tuple(_FOLDERS)


def baseline(framework: str, config: str) -> str:
    """Path of a config that an installed framework ships, to inherit from.

    In a config: ``_base_ = __import__("sp_mmselfsup").baseline("mmselfsup", "byol/byol_...py")``.
    MMEngine's own ``mmselfsup::selfsup/byol/byol_...py`` does the same.

    Args:
        framework: ``mmselfsup`` or ``mmpretrain``.
        config: path in the framework's folder of configs for pre-training.

    Raises:
        ConfigError: no such framework, or not installed; or no such config, with the nearest one.
    """
    if framework not in FRAMEWORKS:
        raise invalid_value("framework", framework, f"one of {', '.join(FRAMEWORKS)}")
    spec = importlib.util.find_spec(framework)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"framework: {framework} is not installed; pip install sp-plugin[mmselfsup]"
        )
    return _find(Path(spec.origin).parent / _FOLDERS[framework], config, "*/*.py")


def recipe(name: str) -> str:
    """Path of a ready recipe with SP, such as ``mmselfsup/byol``, to train or to inherit from.

    On the command line: ``python -m sp_mmselfsup mmselfsup/byol``.

    Raises:
        ConfigError: there is none of that name; with the nearest one.

    >>> recipe("mmselfsup/byol").endswith("mmselfsup/byol.py")
    True
    >>> recipe("mmselfsup/boyl")
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: config: there is no 'boyl.py'; did you mean 'byol.py'?
    """
    framework, _, config = name.rpartition("/")
    return _find(bundled_configs.folder(framework), f"{config.removesuffix('.py')}.py", "*.py")


def _find(folder: Path, config: str, pattern: str) -> str:
    path = folder / config
    if path.is_file():
        return str(path)
    known = [found.relative_to(folder) for found in folder.glob(pattern)]
    siblings = [str(name) for name in known if name.parent == Path(config).parent]
    names = siblings or sorted({name.parts[0] for name in known})
    raise ConfigError(f"config: there is no {config!r}; {did_you_mean(config, names)}")
