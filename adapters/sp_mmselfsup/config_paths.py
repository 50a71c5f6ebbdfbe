"""Where configs stand: the hosts' own in their installed packages, and our recipes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sp_plugin import ConfigError, bundled_configs
from sp_plugin.validation import did_you_mean

# Below the installed package; MMSelfSup keeps its pre-training apart from its benchmarks.
_CONFIGS = {"mmselfsup": ".mim/configs/selfsup", "mmpretrain": ".mim/configs"}


def baseline(host: str, config: str) -> str:
    """Path of a config that an installed host ships, to inherit from.

    In a config: ``_base_ = __import__("sp_mmselfsup").baseline("mmselfsup", "byol/byol_...py")``.
    MMEngine's own ``mmselfsup::selfsup/byol/byol_...py`` does the same.

    Args:
        host: ``mmselfsup`` or ``mmpretrain``.
        config: below the host's folder of configs for pre-training.

    Raises:
        ConfigError: no such host, or not installed; or no such config, with the nearest one.
    """
    if host not in _CONFIGS:
        raise ConfigError(f"host: got {host!r}, takes one of {', '.join(_CONFIGS)}")
    spec = importlib.util.find_spec(host)
    if spec is None or spec.origin is None:
        raise ConfigError(f"host: {host} is not installed; pip install sp-plugin[mmselfsup]")
    return _within(Path(spec.origin).parent / _CONFIGS[host], config, "*/*.py")


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
    host, _, config = name.rpartition("/")
    return _within(bundled_configs.folder(host), f"{config.removesuffix('.py')}.py", "*.py")


def _within(folder: Path, config: str, pattern: str) -> str:
    path = folder / config
    if path.is_file():
        return str(path)
    known = [str(found.relative_to(folder)) for found in folder.glob(pattern)]
    beside = [name for name in known if Path(name).parent == Path(config).parent]
    known = beside or sorted({Path(name).parts[0] for name in known})
    raise ConfigError(f"config: there is no {config!r}; {did_you_mean(config, known)}")
