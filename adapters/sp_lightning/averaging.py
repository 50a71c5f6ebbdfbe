"""Weight averaging: copies of the module that other callbacks hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def copies_of_module(trainer: Any, pl_module: nn.Module) -> Iterator[nn.Module]:
    """Copies of the module in other callbacks, such as EMAWeightAveraging and its like have.

    They are averaged parameter by parameter, in the order of both modules: a submodule of one must
    be in the other too.
    """
    for callback in trainer.callbacks:
        for value in vars(callback).values():
            if isinstance(value, nn.Module):
                inner = getattr(value, "module", value)  # of an AveragedModel
                if type(inner) is type(pl_module) and inner is not pl_module:
                    yield inner
