"""The ``Callback`` base classes: ``pytorch_lightning`` and ``lightning.pytorch`` each have one.

The two are distinct, and a Trainer expects its own. A class derived from both works in either.
"""

from __future__ import annotations

import functools
import importlib
import sys

from sp_lightning.settings_signature import describe_settings

PYTORCH_LIGHTNING, LIGHTNING = "pytorch_lightning", "lightning.pytorch"
PACKAGES = (PYTORCH_LIGHTNING, LIGHTNING)

# Prefixes of the names by which the classes are found again when an instance is unpickled.
_PREFIXES = {(PYTORCH_LIGHTNING,): "PytorchLightning", (LIGHTNING,): "Lightning", PACKAGES: ""}


def class_names(mixin: type) -> dict[str, tuple[str, ...]]:
    """Names of a mixin's classes, each with the packages that it is a ``Callback`` of.

    >>> class MyCallbackMixin: ...
    >>> list(class_names(MyCallbackMixin))
    ['PytorchLightningMyCallback', 'LightningMyCallback', 'MyCallback']
    """
    name = mixin.__name__.removesuffix("Mixin")
    return {f"{prefix}{name}": packages for packages, prefix in _PREFIXES.items()}


def loaded_packages() -> tuple[str, ...]:
    """Lightning packages that are loaded; those that are installed, if none is.

    Raises:
        ImportError: no Lightning is installed.
    """
    loaded = tuple(name for name in PACKAGES if name in sys.modules)
    packages = loaded or tuple(name for name in PACKAGES if _is_installed(name))
    if not packages:
        raise ImportError(
            "SPCallback needs Lightning: pip install pytorch-lightning (or lightning)"
        )
    return packages


@functools.cache
def callback_class(mixin: type, packages: tuple[str, ...]) -> type:
    """A mixin, such as `SPCallbackMixin`, as a subclass of each of these packages' ``Callback``."""
    if len(packages) > 1:
        bases = tuple(callback_class(mixin, (name,)) for name in packages)
    else:
        bases = (mixin, importlib.import_module(packages[0]).Callback)
    name = mixin.__name__.removesuffix("Mixin")
    attributes = {
        "__module__": "sp_lightning",
        "__qualname__": f"{_PREFIXES[packages]}{name}",
        "__doc__": describe_settings(mixin.__doc__ or ""),
    }
    return type(name, bases, attributes)


@functools.cache
def with_packages(cls: type, mixin: type, packages: tuple[str, ...]) -> type:
    """A class of a mixin, or its subclass for packages that were loaded after it was made."""
    missing = tuple(p for p in packages if not issubclass(cls, callback_class(mixin, (p,))))
    if not missing:
        return cls
    if cls.__module__ == "sp_lightning":
        return callback_class(mixin, packages)
    bases = (cls, *(callback_class(mixin, (name,)) for name in missing))
    return type(cls.__name__, bases, {"__module__": cls.__module__})


def _is_installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True
