"""Patches of methods of one LightningModule instance during fit; all are undone afterwards.

Never of a class: another module of the same class stays as it is. Copies and pickles of the
instance have no patches, so workers of a data loader and weight averaging get a plain module.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sp_lightning.student import is_trained
from sp_plugin import ConfigError

log = logging.getLogger("sp_plugin")

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
    """Adds SP's loss to the loss of a step that is backpropagated into the student.

    Under automatic optimization that is what ``training_step`` returns; under manual optimization
    what the first ``manual_backward`` gets whose graph reaches the student: the pass of an online
    probe that steps before it is followed by the ``zero_grad`` of the student's optimizer. Where
    a ``zero_grad`` has cleared the head's gradients since, as in the second pass of SAM, it is
    added again.
    """

    def __init__(self) -> None:
        self._pending: LossFn | None = None  # of a step under manual optimization
        self._joined: LossFn | None = None  # likewise, once a pass includes it
        self._head: nn.Module = nn.Identity()  # SP's
        self._outside: set[int] = set()  # ids of the parameters that are not the student's
        self._reached: bool | None = None  # by a call in this fit; None: there was no call
        self._takes_first = False  # the call of this step, as none of those before reached it

    def training_step(
        self,
        module: Any,
        student: nn.Module,
        head: nn.Module,
        step: Callable[[], Any],
        sp_loss: LossFn,
    ) -> Any:
        """Run a ``training_step`` so that its loss, or one of its backward passes, includes SP's.

        A step under manual optimization may be skipped, and then is without SP.

        Raises:
            ConfigError: manual optimization, and no step so far called ``manual_backward``.
        """
        if module.automatic_optimization:
            return _add_loss(step(), sp_loss)
        self._pending, self._joined, self._head = sp_loss, None, head
        self._takes_first = self._reached is False
        self._outside = _ids(module) - _ids(student) if is_trained(student) else set()
        output = step()
        if self._pending is not None:
            self._pending = None
            self._check_calls()
        return output

    def manual_backward(self, original: Any, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Patch of ``manual_backward``: calls that train the student include SP's loss."""
        includes = self._takes_first
        if self._pending is not None or not self._reached:
            reaches = _reaches_beyond(self._outside, loss)
            includes = includes or reaches
            self._reached = self._reached or reaches
        if includes and self._pending is not None:
            self._joined, self._pending = self._pending, None
            loss = loss + self._joined()
        elif self._joined is not None and _reaches_beyond(self._outside, loss):
            loss = loss + self._loss_of_later_pass(self._joined)
        original(loss, *args, **kwargs)

    def _loss_of_later_pass(self, sp_loss: LossFn) -> Tensor | float:
        """SP's loss again where its gradients are gone, else 0: DDP wants the head in each pass."""
        trained = [p for p in self._head.parameters() if p.requires_grad]
        if trained and all(p.grad is None for p in trained):
            return sp_loss()
        return sum((0 * p.sum() for p in trained), 0.0)

    def _check_calls(self) -> None:
        """After a step without SP: that the calls of this fit are such as SP can use."""
        if self._reached is None:
            raise ConfigError(
                "manual optimization: training_step did not call self.manual_backward(loss), "
                "which is where SP adds its loss; call it instead of loss.backward()"
            )
        if not self._reached and not self._takes_first:
            log.warning(
                "SP: no self.manual_backward(loss) of the step reaches the backbone; SP's loss "
                "joins the first one, which trains it only if no zero_grad() follows"
            )


def _ids(module: nn.Module) -> set[int]:
    return {id(p) for p in module.parameters()}


def _reaches_beyond(outside: set[int], loss: Tensor) -> bool:
    """Whether the graph of a loss has a leaf that is none of these parameters.

    Not whether it has one of the student's: FSDP replaces parameters, and a checkpoint with
    ``use_reentrant=True`` hides them.
    """
    nodes: list[Any] = [loss.grad_fn]
    seen = {None, *nodes}
    while nodes:
        node = nodes.pop()
        if hasattr(node, "variable") and id(node.variable) not in outside:
            return True
        following = {node for node, _ in getattr(node, "next_functions", ())} - seen
        nodes.extend(following)
        seen |= following
    return False


def _add_loss(output: Any, sp_loss: LossFn) -> Any:
    """Output of the step with SP's loss added; a step that was skipped stays skipped."""
    if output is None:
        return None
    if isinstance(output, dict):
        return {**output, "loss": output["loss"] + sp_loss()}
    return output + sp_loss()
