"""The host's first full view, out of whatever its data loader gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sp_plugin import ConfigError


def first_view(batch: Any) -> Tensor:
    """The first floating point (B, C, H, W) found depth first.

    Lists of views put the full ones first, local crops (multi-crop) after them.

    Raises:
        ConfigError: there is none; the line says what the batch was.
    """
    view = _search(batch)
    if view is None:
        raise ConfigError(
            f"batch: a {type(batch).__name__} without images; SP takes floating point (B, 3, H, W)"
        )
    return view


def _search(item: Any) -> Tensor | None:
    if isinstance(item, Tensor):
        return item if item.ndim == 4 and item.is_floating_point() else None
    if isinstance(item, Mapping):
        item = list(item.values())
    if not isinstance(item, (list, tuple)):
        return None
    return next((view for part in item if (view := _search(part)) is not None), None)
