"""What SPCallback wraps on the instance of a module while it is fitted, and puts back after.

Never on a class: a second module of the same class stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from sp_plugin import ConfigError

LossFn = Callable[[], Tensor]


class PatchedMethods:
    """Methods of one instance, wrapped; ``remove()`` puts all of them back.

    >>> class Host:
    ...     def training_step(self, batch): return batch
    >>> host = Host()
    >>> wrapped = PatchedMethods(host)
    >>> wrapped("training_step", lambda original, batch: original(batch) + 1)
    >>> host.training_step(1)
    2
    >>> wrapped.remove()
    >>> host.training_step(1)
    1
    """

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self._names: dict[str, Any] = {}

    def __call__(self, name: str, around: Callable[..., Any]) -> None:
        """Let calls of ``name`` go to ``around(original, *args, **kwargs)``."""
        self._names.setdefault(name, self._instance.__dict__.get(name))
        original = getattr(self._instance, name)
        wrapper = functools.wraps(original)(functools.partial(around, original))
        setattr(self._instance, name, wrapper)

    def remove(self) -> None:
        for name, own in self._names.items():
            self._instance.__dict__.pop(name, None)
            if own is not None:  # the user had put one on the instance, too
                setattr(self._instance, name, own)
        self._names = {}


class LossInjector:
    """When in a step SP is asked: once, with the loss that goes backward first.

    Under automatic optimization that is what ``training_step`` returns; under manual, what the
    first ``manual_backward`` of the step is given.
    """

    def __init__(self) -> None:
        self._waiting: LossFn | None = None

    def in_step(self, module: Any, step: Callable[[], Any], ask: LossFn) -> Any:
        """Run a ``training_step`` so that its loss, or its first backward pass, has SP's in it."""
        if module.automatic_optimization:
            return _add(step(), ask)
        self._waiting = ask
        output = step()
        if self._waiting is None:
            return output
        raise ConfigError(
            "manual optimization: training_step did not call self.manual_backward(loss), "
            "which is where SP adds its loss; call it instead of loss.backward()"
        )

    def in_backward(self, original: Any, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Around ``manual_backward``: a step of several has asked already after the first."""
        ask, self._waiting = self._waiting, None
        original(loss if ask is None else loss + ask(), *args, **kwargs)


def _add(output: Any, ask: LossFn) -> Any:
    """The step's output with SP's loss in it; a step that was skipped stays skipped."""
    if output is None:
        return None
    if isinstance(output, dict):
        return {**output, "loss": output["loss"] + ask()}
    return output + ask()
