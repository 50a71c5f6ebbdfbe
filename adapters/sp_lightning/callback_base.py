"""One callback class for both Lightnings.

``pytorch_lightning`` and ``lightning.pytorch`` are two packages with two distinct ``Callback``
classes. A class that inherits from both works in the Trainer of either.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

PACKAGES = ("pytorch_lightning", "lightning.pytorch")


def callback_classes() -> tuple[type, ...]:
    """The ``Callback`` of each Lightning that is loaded; of each that is installed, if none is.

    Raises:
        ImportError: no Lightning is installed.
    """
    loaded = [name for name in PACKAGES if name in sys.modules]
    found = [module for name in loaded or PACKAGES if (module := _import(name))]
    if not found:
        raise ImportError(
            "SPCallback needs Lightning: pip install pytorch-lightning (or lightning)"
        )
    return tuple(module.Callback for module in found)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


@functools.cache
def with_bases(body: type, bases: tuple[type, ...]) -> type:
    """``body`` as a subclass of ``bases``, one class for each combination."""
    return type(body.__name__, (body, *bases), {"__module__": body.__module__})
