"""FeatureCapture: the embeddings of the host's views, taken from the student as the host calls it.

A hook on the student keeps what goes in and what comes out while a training step runs. Which rows
of which call are which view is found by the pixels, once for each pattern of calls
(`sp_plugin.views.matching`). In every step the pixels are compared again on the device, and rows that
are not the view's do not count: a host that changes the order of its views is left out, never
mistaken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sp_plugin.features.extraction import pool_features
from sp_plugin.validation import ConfigError, did_you_mean
from sp_plugin.views.matching import ViewAssignment, match_views, rows_equal, smallest_views
from sp_plugin.views.transform import ViewBoxes


class EncodedViews(NamedTuple):
    """Views of each image that the host has encoded already, for SP to ask about.

    Attributes:
        features: (k, B, D), pooled, on the host's own graph.
        boxes: (k, B, 4), where they lie in their image; NaN where a view does not count.
        flips: (k, B, 2), -1 where a view is mirrored left to right, top to bottom, else 1.
    """

    features: Tensor
    boxes: Tensor
    flips: Tensor


@dataclass
class _Call:
    images: Tensor
    output: Any = None


class FeatureCapture:
    """Keeps what the student encodes while it is open; calls without gradients do not count.

    A student that is asked by a method of its own (lightly's ``encode``) is seen by the first part
    of it that takes images; then ``layer`` must say which part gives the features.

    Args:
        backbone: the host's student.
        pool, layer: as for `sp_plugin.features.extraction.encode`.

    Attributes:
        views: numbers of the views that SP asks about, found in the first step.

    >>> student = nn.Conv2d(3, 8, 3)
    >>> watch, views = FeatureCapture(student), [torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)]
    >>> watch.open()
    >>> out = [student(view) for view in views]
    >>> places = ViewBoxes(torch.rand(2, 2, 4), torch.ones(2, 2, 2))
    >>> watch.collect(views, places).features.shape
    torch.Size([2, 2, 8])
    >>> watch.remove()
    """

    def __init__(self, backbone: nn.Module, pool: str = "mean", layer: str | None = None) -> None:
        self.views: list[int] = []
        self._width = 0
        self._pool, self._prefix = pool, getattr(backbone, "num_prefix_tokens", None)
        self._plans: dict[Any, ViewAssignment] = {}
        self._open = self._within = False
        self._calls: list[_Call] = []
        told = backbone
        if layer is not None:
            parts = dict(backbone.named_modules())
            if layer not in parts:
                raise ConfigError(
                    f"layer: the backbone has no {layer!r}; {did_you_mean(layer, parts)}"
                )
            told = parts[layer]
        stems = [part for part in backbone.modules() if getattr(part, "in_channels", None) == 3]
        self._handles = [
            backbone.register_forward_pre_hook(self._enters, with_kwargs=True),
            *(stem.register_forward_pre_hook(self._enters_within) for stem in stems),
            told.register_forward_hook(self._answers),
            backbone.register_forward_hook(self._leaves),
        ]

    def open(self) -> None:
        """Begin a step."""
        self._calls, self._open, self._within = [], True, False

    def close(self) -> None:
        """End it: nothing of the host's graph is kept."""
        self._calls, self._open = [], False

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Open while the host's step and what SP asks in it run."""
        self.open()
        try:
            yield
        finally:
            self.close()

    def remove(self) -> None:
        """Take the hooks off."""
        self.close()
        for handle in self._handles:
            handle.remove()

    def _enters(self, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._open and torch.is_grad_enabled():
            given = (*args, *kwargs.values())
            images = (item for item in given if isinstance(item, Tensor) and item.ndim == 4)
            # One for every call, that the layer's answer may not be taken for another call's.
            self._calls.append(_Call(next(images, torch.empty(0))))
        self._within = True

    def _enters_within(self, stem: nn.Module, args: Any) -> None:
        if not self._within:
            self._enters(stem, args, {})
            self._within = False

    def _answers(self, _: nn.Module, __: Any, output: Any) -> None:
        if self._open and torch.is_grad_enabled() and self._calls:
            self._calls[-1].output = output

    def _leaves(self, *_: Any) -> None:
        self._within = False

    def collect(self, views: list[Tensor], places: ViewBoxes) -> EncodedViews:
        """The embeddings of the views that SP asks about: the smallest that are two or more.

        Args:
            views: (B, 3, H, W) each, all that the batch holds, in their order.
            places: of these views.

        Raises:
            ConfigError: places of other views; or, in the first step, a student that encodes no
                two views of one size, or views that cannot be followed to their image.
        """
        if len(places.boxes) != len(views):
            raise _refused(
                f"the batch has {len(views)} views, its transform made {len(places.boxes)}"
            )
        boxes, flips = (told.to(views[0].device, non_blocking=True) for told in places)
        calls = [call for call in self._calls if call.output is not None]
        plan = self._plan(calls, views)
        if self._calls and not calls:
            raise _refused(
                "a method of its own asks the backbone; say which layer gives the features"
            )
        self.views = self.views or _first(plan, views, boxes)
        answers = [pool_features(call.output, self._pool, self._prefix) for call in calls]
        features, lie = [], []
        for number in self.views:
            view, slot = views[number], plan.get(number)
            if slot is None:  # with calls like these the host does not encode it
                features.append(view.new_zeros(len(view), self._width))
                lie.append(torch.full_like(boxes[number], torch.nan))
                continue
            features.append(slot.rows(answers[slot.call], len(view)))
            same = rows_equal(slot.rows(calls[slot.call].images, len(view)), view).unsqueeze(1)
            lie.append(torch.where(same, boxes[number], torch.nan))
        self._width = features[0].shape[1]
        seen = torch.stack([flips[number] for number in self.views])
        return EncodedViews(torch.stack(features), torch.stack(lie), seen)

    def _plan(self, calls: list[_Call], views: list[Tensor]) -> ViewAssignment:
        given = [call.images for call in calls]
        pattern = tuple(images.shape for images in (*given, *views))
        if pattern not in self._plans:
            self._plans[pattern] = match_views(given, views)
        return self._plans[pattern]


def _first(plan: ViewAssignment, views: list[Tensor], boxes: Tensor) -> list[int]:
    """What SP asks about, in the first step; or why it cannot."""
    chosen = smallest_views(plan, views)
    if not chosen:
        raise _refused(
            f"the backbone is called, with gradients, on {len(plan)} of the batch's {len(views)} "
            "views as they are, and not on two of one size"
        )
    if boxes[chosen].isnan().all():
        raise _refused("the views are turned, warped or padded, and no box says where they lie")
    return chosen


def _refused(but: str) -> ConfigError:
    return ConfigError(
        f"source: got 'host_views', but {but}; take 'view' or 'image' with this host"
    )
