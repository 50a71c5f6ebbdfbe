"""FeatureCapture: features of the method's own views, recorded as the method calls its student.

Hooks on the student record its inputs and outputs while a training step runs. Which rows of which
call belong to which view is found by the pixels, once for each pattern of calls
(`sp_plugin.views.matching`). In every step the pixels are compared again on the device, and rows
that are not the view's do not count: a method that changes the order of its views loses these
pairs and never gets wrong ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sp_plugin.features.backbone_call import feature_module, find_layer
from sp_plugin.features.layout import FeatureLayout, layout_of
from sp_plugin.features.prefix_tokens import declared_prefix
from sp_plugin.structures import RGB_CHANNELS, EncodedViews, ViewBoxes
from sp_plugin.validation import ConfigError
from sp_plugin.views.matching import ViewAssignment, match_views, rows_equal, smallest_views
from sp_plugin.views.student_calls import StudentCall, calls_of, set_output

__all__ = ["FeatureCapture"]


class FeatureCapture:
    """Records what the student encodes in a training step; calls without gradients do not count.

    Several views in one call, as one tensor or as a list, are taken apart. Images that the method
    masks do not count. A student that the method calls through a method of its own (lightly's
    ``encode``) is seen by the first submodule that takes images; then ``layer`` must name the part
    with the features.

    Args:
        backbone: student of the host.
        pool: as for `sp_plugin.features.extraction.extract_features`.
        layer: likewise.
        layout: where the features are in the student's output; None: as far as the output shows it.
        channels: number of channels of the views.

    Attributes:
        selected_views: indices of the views that SP uses, chosen in the first step.
        is_recording: whether a step is under way.

    >>> student = nn.Conv2d(3, 8, 3)
    >>> capture, views = FeatureCapture(student), [torch.rand(2, 3, 8, 8) for _ in range(2)]
    >>> view_boxes = ViewBoxes(torch.rand(2, 2, 4), torch.ones(2, 2, 2))
    >>> with capture.recording():
    ...     outputs = [student(view) for view in views]
    ...     capture.collect(views, view_boxes).features.shape
    torch.Size([2, 2, 8])
    >>> capture.remove()
    """

    def __init__(
        self,
        backbone: nn.Module,
        pool: str = "mean",
        layer: str | None = None,
        layout: FeatureLayout | None = None,
        channels: int = RGB_CHANNELS,
    ) -> None:
        self.selected_views: list[int] = []
        self._backbone = backbone
        self._pool = pool
        self._layout = layout
        self._feature_dim = 0  # of the last step, for views that are not encoded in this one
        self._assignments: dict[Any, ViewAssignment] = {}
        self._calls: list[StudentCall] = []
        self._current: list[StudentCall] = []  # those of the call that is running
        self.is_recording = False
        self._in_backbone = False  # the student's own forward is running
        layer_module = feature_module(backbone) if layer is None else find_layer(backbone, layer)
        stems = [
            part for part in backbone.modules() if getattr(part, "in_channels", None) == channels
        ]
        self._handles = [
            backbone.register_forward_pre_hook(self._on_forward_start, with_kwargs=True),
            *(stem.register_forward_pre_hook(self._on_stem_start) for stem in stems),
            layer_module.register_forward_hook(self._on_output),
            backbone.register_forward_hook(self._on_forward_end),
        ]

    def start(self) -> None:
        """Begin a step."""
        self._calls, self.is_recording, self._in_backbone = [], True, False

    def stop(self) -> None:
        """End a step: no graph of the host is kept."""
        self._calls, self._current, self.is_recording = [], [], False

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record while the host's step runs and SP uses its features."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def remove(self) -> None:
        """Remove the hooks."""
        self.stop()
        for handle in self._handles:
            handle.remove()

    def _on_forward_start(self, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self.is_recording and torch.is_grad_enabled():
            # Entries for every call, so that an output is never taken for another call's.
            self._current = calls_of(args, kwargs)
            self._calls += self._current
        self._in_backbone = True

    def _on_stem_start(self, stem: nn.Module, args: Any) -> None:
        if not self._in_backbone:  # the method bypasses the student's forward
            self._on_forward_start(stem, args, {})
            self._in_backbone = False

    def _on_output(self, _: nn.Module, __: Any, output: Any) -> None:
        if self.is_recording and torch.is_grad_enabled() and self._calls:
            set_output(self._current, output)

    def _on_forward_end(self, *_: Any) -> None:
        self._in_backbone = False

    def collect(self, views: list[Tensor], view_boxes: ViewBoxes) -> EncodedViews:
        """Features and locations of the selected views: the smallest that are two or more.

        Args:
            views: (B, C, H, W) each, all views of the batch in their order.
            view_boxes: locations of these views.

        Raises:
            ConfigError: locations of other views; or, in the first step, a student that encodes no
                two views of one size, or views that cannot be located in their image.
        """
        if len(view_boxes.boxes) != len(views):
            num_views, num_boxes = len(views), len(view_boxes.boxes)
            raise _refusal(f"the batch has {num_views} views, its transform made {num_boxes}")
        device = views[0].device
        boxes, flips = (part.to(device, non_blocking=True) for part in view_boxes)
        unmasked = [call for call in self._calls if not call.is_masked]
        calls = [call for call in unmasked if call.output is not None]
        assignment = self._assignment(calls, views)
        if unmasked and not calls:
            raise _refusal(
                "a method of its own calls the backbone; name the layer that gives the features"
            )
        self.selected_views = self.selected_views or _select_views(assignment, views, boxes)
        features = [self._pooled(call) for call in calls]
        selected_features, selected_boxes = [], []
        for index in self.selected_views:
            view, rows = views[index], assignment.get(index)
            if rows is None:  # not encoded by this pattern of calls
                selected_features.append(view.new_zeros(len(view), self._feature_dim))
                selected_boxes.append(torch.full_like(boxes[index], torch.nan))
                continue
            selected_features.append(rows.select(features[rows.call], len(view)))
            encoded = rows.select(calls[rows.call].images, len(view))
            is_same = rows_equal(encoded, view).unsqueeze(1)
            selected_boxes.append(torch.where(is_same, boxes[index], torch.nan))
        self._feature_dim = selected_features[0].shape[1]
        selected_flips = torch.stack([flips[index] for index in self.selected_views])
        return EncodedViews(
            torch.stack(selected_features), torch.stack(selected_boxes), selected_flips
        )

    def _pooled(self, call: StudentCall) -> Tensor:
        known = self._layout
        if known is None or known.kind == "vector":
            height, width = call.images.shape[-2:]
            prefix = declared_prefix(self._backbone)
            own = layout_of(call.output, self._pool, prefix, is_square=height == width)
            # The method may call the student with an option that gives it more than a class token.
            if known is None or (own.kind != "vector" and own.feature_dim == known.feature_dim):
                return own.pool(call.output, self._pool)
        return known.pool(call.output, self._pool, self._backbone.training)

    def _assignment(self, calls: list[StudentCall], views: list[Tensor]) -> ViewAssignment:
        inputs = [call.images for call in calls]
        pattern = tuple(images.shape for images in (*inputs, *views))
        if pattern not in self._assignments:
            self._assignments[pattern] = match_views(inputs, views)
        return self._assignments[pattern]


def _select_views(assignment: ViewAssignment, views: list[Tensor], boxes: Tensor) -> list[int]:
    """Views for SP to use, chosen in the first step; or the reason why there are none."""
    selected = smallest_views(assignment, views)
    if not selected:
        raise _refusal(
            f"the backbone is called, with gradients, on {len(assignment)} of the batch's "
            f"{len(views)} views as they are, and not on two of one size"
        )
    if boxes[selected].isnan().all():
        raise _refusal("the views are rotated, warped or padded, and no box describes them")
    return selected


def _refusal(reason: str) -> ConfigError:
    return ConfigError(
        f"source: got 'host_views', but {reason}; take 'view' or 'image' with this method"
    )
