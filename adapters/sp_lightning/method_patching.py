"""Patches of methods of one LightningModule instance during fit; all are undone afterwards.

Never of a class: another module of the same class stays as it is. Copies and pickles of the
instance have no patches, so workers of a data loader and weight averaging get a plain module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from sp_plugin import ConfigError

LossFn = Callable[[], Tensor]


class PatchedMethods:
    """Patched methods of one instance; ``remove()`` restores all of them.

    The instance is pickled and copied as if it had none.

    >>> class Module:
    ...     def training_step(self, batch): return batch
    >>> module = Module()
    >>> methods = PatchedMethods(module)
    >>> methods.patch("training_step", lambda original, batch: original(batch) + 1)
    >>> module.training_step(1)
    2
    >>> methods.remove()
    >>> module.training_step(1)
    1
    """

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self._instance_methods: dict[str, Any] = {}  # set on the instance by the user before
        if hasattr(instance, "__getstate__"):  # every LightningModule; pickle and copy call it
            self.patch("__getstate__", self._state_without_patches)

    def patch(self, name: str, around: Callable[..., Any]) -> None:
        """Replace calls of ``name`` by ``around(original, *args, **kwargs)``."""
        self._instance_methods.setdefault(name, self._instance.__dict__.get(name))
        original = getattr(self._instance, name)
        wrapper = functools.wraps(original)(functools.partial(around, original))
        setattr(self._instance, name, wrapper)

    def remove(self) -> None:
        for name, method in self._instance_methods.items():
            self._instance.__dict__.pop(name, None)
            if method is not None:
                setattr(self._instance, name, method)
        self._instance_methods = {}

    def _state_without_patches(self, original: Callable[[], Any]) -> dict[str, Any]:
        own = {name: method for name, method in self._instance_methods.items() if method}
        state = {k: v for k, v in original().items() if k not in self._instance_methods}
        return {**state, **own}


class LossInjector:
    """Adds SP's loss once in a step, to the loss that is backpropagated first.

    Under automatic optimization that is what ``training_step`` returns; under manual optimization
    what the first ``manual_backward`` of the step gets.
    """

    def __init__(self) -> None:
        self._pending: LossFn | None = None  # of a step under manual optimization

    def training_step(self, module: Any, step: Callable[[], Any], sp_loss: LossFn) -> Any:
        """Run a ``training_step`` so that its loss, or its first backward pass, includes SP's.

        Raises:
            ConfigError: a step under manual optimization without ``manual_backward``.
        """
        if module.automatic_optimization:
            return _add_loss(step(), sp_loss)
        self._pending = sp_loss
        output = step()
        if self._pending is None:
            return output
        raise ConfigError(
            "manual optimization: training_step did not call self.manual_backward(loss), "
            "which is where SP adds its loss; call it instead of loss.backward()"
        )

    def manual_backward(self, original: Any, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Patch of ``manual_backward``: only the first call of a step includes SP's loss."""
        sp_loss, self._pending = self._pending, None
        original(loss if sp_loss is None else loss + sp_loss(), *args, **kwargs)


def _add_loss(output: Any, sp_loss: LossFn) -> Any:
    """Output of the step with SP's loss added; a step that was skipped stays skipped."""
    if output is None:
        return None
    if isinstance(output, dict):
        return {**output, "loss": output["loss"] + sp_loss()}
    return output + sp_loss()
