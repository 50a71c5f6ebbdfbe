"""InputCheck: is what SP cuts its crops from what the method trains its student on?

In the first steps a hook on the student sees what the method gives it. Where that differs from the
view that SP takes, by channels, size, or mean and standard deviation, one line says so, with both.
Then the hooks are gone, and later steps cost nothing.

A student that masks or sees another view of the same kind is no difference: pixels are compared
first, and only where none of the view's come back, the numbers.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sp_plugin.features.input_size import first_convolution
from sp_plugin.nested import tree_leaves
from sp_plugin.view_search import NamedView

__all__ = ["InputCheck"]

log = logging.getLogger("sp_plugin")

STEPS = 2  # steps that are compared; the line needs a difference in each
MAX_CALLS = 16  # calls of the student that are kept in a step
SAME_PIXELS = 0.05  # share of equal pixels from which on two tensors are the same view, masked
# Two random views differ less: [0, 1] and [-1, 1] differ by a factor of 2.
MAX_STD_RATIO = 1.75
MAX_MEAN_SHIFT = 1.0  # in standard deviations


class _InputHook:
    """Hook of the student; a copy of the student, such as an EMA teacher's, records nothing."""

    def __init__(self, calls: list[Tensor]) -> None:
        self.calls: list[Tensor] | None = calls

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self.calls is None or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        if module.training and len(self.calls) < MAX_CALLS:
            images = tree_leaves((args, kwargs), lambda item: isinstance(item, Tensor))
            self.calls += [item.detach() for item in images if item.ndim == 4]

    def __deepcopy__(self, _: Any) -> _InputHook:
        copied = _InputHook([])
        copied.calls = None
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {"calls": None}


class InputCheck:
    """Compares the view that SP takes with the inputs of the student, in the first steps.

    The method may call its student before SP is called in a step, or after SP: then what it calls
    between two calls of SP belongs to the first of the two.

    Args:
        backbone: student of the host.

    Attributes:
        is_done: whether the first steps are over, and the hooks removed.

    >>> student = nn.Conv2d(3, 8, 3)
    >>> check, view = InputCheck(student), NamedView("image", torch.rand(2, 3, 8, 8))
    >>> for step in range(STEPS):
    ...     features = student(view.images)
    ...     check.compare(view, [view])
    >>> check.is_done, len(student._forward_pre_hooks)
    (True, 0)
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.is_done = False
        self._calls: list[Tensor] = []
        self._stem_calls: list[Tensor] = []
        self._sp_comes_first: bool | None = None  # in a step; known from the second call on
        self._previous: _Taken | None = None
        self._differences: list[tuple[str, str, str]] = []
        self._num_compared = self._num_steps = 0
        self._handles = [_add_hook(backbone, self._calls)]
        # A method may call its student by a method of its own (timm's forward_features): then its
        # first convolution sees the images.
        stem = first_convolution(backbone)
        if stem is not None and stem is not backbone:
            self._handles.append(_add_hook(stem, self._stem_calls))

    def forget(self) -> None:
        """Forget the calls so far: they were SP's own, or not of a training step."""
        self._calls.clear()
        self._stem_calls.clear()

    def remove(self) -> None:
        """Remove the hooks; nothing is compared any more."""
        self.is_done, self._previous = True, None
        self.forget()
        for handle in self._handles:
            handle.remove()

    def compare(self, view: NamedView, views: list[NamedView], crops: Tensor | None = None) -> None:
        """Compare a step's view with what the student was called on; synchronises the device.

        Args:
            view: the view that SP takes.
            views: all views of the batch.
            crops: (N, C, S, S), with source ``image``: SP's crops, which are compared instead.
        """
        if self.is_done:
            return
        inputs = list(self._calls or self._stem_calls)
        self.forget()
        if self._sp_comes_first is None:
            self._sp_comes_first = not inputs
        current = _Taken(view, views, crops)
        taken = self._previous if self._sp_comes_first else current
        self._previous = current
        self._num_steps += 1
        if inputs and taken:
            self._num_compared += 1
            if difference := _difference(inputs, taken):
                self._differences.append(difference)
        if self._num_compared == STEPS or self._num_steps > STEPS:
            if len(self._differences) == STEPS:
                log.warning("SP: the student gets %s, but SP %s; %s", *self._differences[0])
            self.remove()


class _Taken(NamedTuple):
    """What SP takes in a step, as `InputCheck.compare` gets it."""

    view: NamedView
    views: list[NamedView]
    crops: Tensor | None


def _add_hook(module: nn.Module, calls: list[Tensor]) -> RemovableHandle:
    return module.register_forward_pre_hook(_InputHook(calls), with_kwargs=True)


@torch.no_grad()
def _difference(inputs: list[Tensor], taken: _Taken) -> tuple[str, str, str] | None:
    """What the student gets, what SP takes, and what to do; None where an input is like SP's."""
    (path, view), views, crops = taken
    pixels = view if crops is None else crops
    for images in inputs:
        if crops is None and _has_pixels_of(images, view):
            return None
        is_a_view = any(_has_pixels_of(images, other.images) for other in views)
        is_comparable = crops is not None or is_a_view or images.shape[2:] == view.shape[2:]
        if is_comparable and _is_similar(images, pixels):
            return None
    images = max(inputs, key=lambda item: item.shape[-2] * item.shape[-1])
    names = [other.path for other in views if _has_pixels_of(images, other.images)]
    if crops is not None:
        source = "takes crops of the image"
        hint = "put the method's Normalize into the data set's transform, where SP finds it"
    else:
        source = f"cuts its crops from {path or 'views'}"
        hint = (
            f"set view={names[0]!r}"
            if names
            else "name another view by view=, or resize, normalise and augment the batch before "
            "the training step, or take source='image'"
        )
    return _described(images), f"{source} {_described(pixels)}", hint


def _has_pixels_of(images: Tensor, view: Tensor) -> bool:
    """Whether some rows of the images are the view, as it is or with a part of its pixels masked.

    Pixels of flat areas do not count: black backgrounds are in every image.
    """
    if images.shape[1:] != view.shape[1:] or not len(view) or view.shape[3] < 2:
        return False
    view = view.to(images)
    counts = view[..., 1:] != view[..., :-1]
    num_views = len(images) // len(view)
    in_blocks = [images[n * len(view) :][: len(view)] for n in range(num_views)]
    alternating = [images[n::num_views][: len(view)] for n in range(num_views)]
    return any(
        bool(((rows == view)[..., 1:] & counts).sum() > SAME_PIXELS * counts.sum())
        for rows in (*in_blocks, *(alternating if num_views > 1 else []))
    )


def _is_similar(images: Tensor, others: Tensor) -> bool:
    """Whether both have the same channels, of about the same mean and standard deviation."""
    if images.shape[1] != others.shape[1]:
        return False
    (mean, std), (other_mean, other_std) = _mean_and_std(images), _mean_and_std(others)
    ratio = (std.log() - other_std.log()).abs().mean().exp()
    shift = ((mean - other_mean).abs() / torch.maximum(std, other_std)).mean()
    return not bool((ratio > MAX_STD_RATIO) | (shift > MAX_MEAN_SHIFT))  # NaN is no difference


def _mean_and_std(images: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(images.float(), dim=(0, 2, 3), correction=0)
    return mean, std.clamp_min(1e-6)


def _described(images: Tensor) -> str:
    mean, std = (" ".join(f"{x:.3g}" for x in part.tolist()) for part in _mean_and_std(images))
    dtype = str(images.dtype).removeprefix("torch.")
    return f"{tuple(images.shape)} {dtype} of mean {mean} and std {std}"
