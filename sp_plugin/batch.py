"""Batches of data loaders: the method's views in them, and what SP's transforms have added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sp_plugin.nested import tree_leaves
from sp_plugin.structures import IMAGE_CHANNELS, Crops, ViewBoxes
from sp_plugin.validation import ConfigError

__all__ = ["SPBatch", "find_views", "first_view", "split_batch", "to_device", "validate_source"]

SPBatch = Crops | ViewBoxes
"""What SP's transforms add to a batch: crops of its images, or the locations of its views."""


def first_view(batch: Any) -> Tensor:
    """The method's first full view: the first floating point (B, C, H, W), depth first.

    Lists of views hold the full ones first, local crops (multi-crop) after them.

    Raises:
        ConfigError: there is none; the line names the type of the batch.

    >>> full, local = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4)
    >>> first_view([full, local]) is full, first_view(full) is full
    (True, True)
    """
    view: Tensor | None = next(tree_leaves(batch, _is_images), None)
    if view is None:
        raise ConfigError(
            f"batch: a {type(batch).__name__} without images; SP takes floating point (B, 3, H, W)"
        )
    return view


def find_views(batch: Any) -> list[Tensor]:
    """All views of a batch, depth first: floating point (B, 3, H, W).

    >>> [view.shape[-1] for view in find_views([[torch.zeros(2, 3, 8, 8)], torch.zeros(2, 3)])]
    [8]
    """
    return list(
        tree_leaves(batch, lambda item: _is_images(item) and item.shape[1] == IMAGE_CHANNELS)
    )


def _is_images(item: Any) -> bool:
    return isinstance(item, Tensor) and item.ndim == 4 and item.is_floating_point()


def split_batch(batch: Any) -> tuple[Any, SPBatch | None]:
    """Separate the method's own batch from what `SPTransform` or `ViewBoxTransform` has added.

    Args:
        batch: collated samples of a data loader, in any nesting of dicts, lists and tuples.

    Returns:
        The batch that the method would get without SP, and SP's part; None where there is none.

    >>> sp = {"crops": torch.zeros(4, 2, 3, 8, 8), "boxes": torch.zeros(4, 2, 4)}
    >>> batch, crops = split_batch([{"views": [1, 2], "sp": sp}, "label"])
    >>> batch, crops.pixels.shape
    ([[1, 2], 'label'], torch.Size([8, 3, 8, 8]))
    """
    parts: list[SPBatch] = []
    batch = _without_sp(batch, parts)
    return batch, parts[0] if parts else None


def _without_sp(item: Any, parts: list[SPBatch]) -> Any:
    """The item without SP's samples, which go to ``parts``; the same object where it has none."""
    if isinstance(item, Mapping):
        if set(item) == {"views", "sp"}:
            kind = Crops if "crops" in item["sp"] else ViewBoxes
            parts.append(kind.from_batch(item["sp"]))
            return item["views"]
        entries = {key: _without_sp(value, parts) for key, value in item.items()}
        changed = any(entries[key] is not value for key, value in item.items())
        return entries if changed else item
    if type(item) in (list, tuple):
        items = [_without_sp(value, parts) for value in item]
        changed = any(new is not old for new, old in zip(items, item, strict=True))
        return type(item)(items) if changed else item
    return item


def to_device(sp_batch: SPBatch, device: torch.device) -> SPBatch:
    """Copy of SP's part of a batch on a device; it was split off before the batch went there."""
    return type(sp_batch)(*(part.to(device, non_blocking=True) for part in sp_batch))


_PARTS: dict[str, tuple[type[SPBatch] | None, str]] = {
    "view": (None, ""),
    "image": (Crops, "crops: wrap the data set's transform in sp_plugin.SPTransform"),
    "host_views": (
        ViewBoxes,
        "locations of its views: wrap the data set's transform in sp_plugin.ViewBoxTransform",
    ),
}


def validate_source(source: str, sp_batch: SPBatch | None) -> None:
    """Check that a batch brings what ``source`` needs.

    Raises:
        ConfigError: the batch lacks it, or brings what another source needs.
    """
    kind, missing = _PARTS[source]
    if sp_batch is None and kind is not None:
        raise ConfigError(
            f"source: got {source!r}, but the batch brings no {missing}, or take source='view'"
        )
    if sp_batch is not None and (kind is None or not isinstance(sp_batch, kind)):
        is_crops = isinstance(sp_batch, Crops)
        transform, fitting = (
            ("SPTransform", "image") if is_crops else ("ViewBoxTransform", "host_views")
        )
        raise ConfigError(
            f"source: got {source!r}, but the data set's {transform} is for source={fitting!r}; "
            f"set source={fitting!r}"
        )
