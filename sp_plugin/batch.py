"""Batches of data loaders: the method's views in them, and what SP's transforms have added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sp_plugin.nested import container_items, replace_items, tree_items
from sp_plugin.structures import Crops, UncoloredCrops, ViewBoxes
from sp_plugin.validation import ConfigError

__all__ = ["SPBatch", "split_batch", "to_device", "validate_source"]

SPBatch = Crops | UncoloredCrops | ViewBoxes
"""What SP's transforms add to a batch: crops of its images, or the locations of its views."""


def split_batch(batch: Any) -> tuple[Any, SPBatch | None]:
    """Separate the method's own batch from what `SPTransform` or `ViewBoxTransform` has added.

    Args:
        batch: collated samples of a data loader, in any nesting of containers
            (`sp_plugin.nested`), which are rebuilt as what they are.

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


def _without_sp(item: Any, parts: list[SPBatch], outer: tuple[int, ...] = ()) -> Any:
    """The item without SP's samples, which go to ``parts``; the same object where it has none."""
    is_sample = isinstance(item, Mapping) and set(item.keys()) == {"views", "sp"}
    if is_sample and isinstance(item["sp"], Mapping):
        kind = Crops if "crops" in item["sp"] else ViewBoxes
        parts.append(kind.from_batch(item["sp"]))
        return item["views"]
    if id(item) in outer:  # an object that holds itself
        return item
    changed = {}
    for key, value in container_items(item):
        rest = _without_sp(value, parts, (*outer, id(item)))
        if rest is not value:
            changed[key] = rest
    return replace_items(item, changed) if changed else item


def to_device(sp_batch: SPBatch, device: torch.device) -> SPBatch:
    """Copy of SP's part of a batch on a device; it was split off before the batch went there."""
    parts: list[Any] = [
        part.to(device, non_blocking=True) if isinstance(part, Tensor) else part
        for part in sp_batch
    ]
    return type(sp_batch)(*parts)


_CROPS = (Crops, UncoloredCrops)
_PARTS: dict[str, tuple[tuple[type[SPBatch], ...], str]] = {
    "view": ((), ""),
    "image": (_CROPS, "crops: wrap the data set's transform in sp_plugin.SPTransform"),
    "host_views": (
        (ViewBoxes,),
        "locations of its views: wrap the data set's transform in sp_plugin.ViewBoxTransform",
    ),
}


def validate_source(source: str, sp_batch: SPBatch | None, batch: Any = None) -> None:
    """Check that a batch brings what ``source`` needs.

    Args:
        source: setting of SP.
        sp_batch: SP's part of the batch.
        batch: the rest of it, in which a part that was not recognised is looked for.

    Raises:
        ConfigError: the batch lacks it, or brings what another source needs.
    """
    kinds, missing = _PARTS[source]
    if sp_batch is None and kinds:
        if (path := _path_of_sp(batch)) is not None:
            raise ConfigError(
                f"source: got {source!r}, but SP's part of the batch is at {path!r} by itself; "
                "keep the sample of SP's transform, {'views': ..., 'sp': ...}, as it is"
            )
        raise ConfigError(
            f"source: got {source!r}, but the batch brings no {missing}, or take source='view'"
        )
    if sp_batch is not None and not isinstance(sp_batch, kinds):
        is_crops = isinstance(sp_batch, _CROPS)
        transform, fitting = (
            ("SPTransform", "image") if is_crops else ("ViewBoxTransform", "host_views")
        )
        raise ConfigError(
            f"source: got {source!r}, but the data set's {transform} is for source={fitting!r}; "
            f"set source={fitting!r}"
        )


def _path_of_sp(batch: Any) -> str | None:
    """Path of what SP's transforms have added, in a batch whose containers were changed since."""
    keys = ({"crops", "boxes"}, {"crops", "boxes", "normalization"}, {"boxes", "flips"})
    items = tree_items(batch, lambda item: isinstance(item, Mapping) and set(item.keys()) in keys)
    return next((path for path, _ in items), None)
