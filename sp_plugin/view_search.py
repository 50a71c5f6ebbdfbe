"""View search: which tensor of a batch is the method's view, that SP takes its crops from.

Candidates are floating point images (B, C, H, W) with the backbone's channels, and the entries of
stacked ones (B, V, C, H, W). The largest is the view, the first of equals: masks, depth maps and
the local crops of a multi-crop method come second, wherever they stand. The setting ``view`` names
another one, or one of several images that a tensor holds in its channels: ``image[:13]``.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sp_plugin.nested import tree_items
from sp_plugin.structures import RGB_CHANNELS
from sp_plugin.validation import ConfigError

__all__ = ["NamedView", "find_view", "find_views", "named_views"]

_CHANNELS = re.compile(r"(.*)\[(\d*):(\d*)\]")  # "image[:13]"


class NamedView(NamedTuple):
    """A view and its dotted path in the batch; empty where the batch is the view."""

    path: str
    images: Tensor


def named_views(batch: Any, channels: int | None = None) -> list[NamedView]:
    """All views of a batch with their paths, depth first.

    Args:
        batch: any nesting of tensors.
        channels: of the backbone; None: 3.

    >>> batch = {"mask": torch.zeros(2, 1, 8, 8), "views": [torch.zeros(2, 3, 8, 8)]}
    >>> [view.path for view in named_views(batch)]
    ['views.0']
    """
    images = (NamedView(*item) for item in tree_items(batch, _is_images))
    return [view for item in images for view in _unstacked(item, channels or RGB_CHANNELS)]


def find_views(batch: Any, channels: int | None = None) -> list[Tensor]:
    """All views of a batch, as `named_views` finds them.

    >>> [view.shape[-1] for view in find_views([[torch.zeros(2, 3, 8, 8)], torch.zeros(2, 3)])]
    [8]
    """
    return [view.images for view in named_views(batch, channels)]


def find_view(batch: Any, view: int | str | None = None, channels: int | None = None) -> NamedView:
    """The view that SP takes, with its path.

    Args:
        batch: any nesting of tensors.
        view: its place among the views of the batch, from 0; or its path, the end of its path, or
            the path of the container that holds it; with ``[first:last]`` after it these channels
            of a larger tensor; None: the largest view, the first of equals.
        channels: as for `named_views`.

    Raises:
        ConfigError: there is no view, or none of that name, with the paths that there are.

    >>> batch = {"normals": torch.zeros(2, 3, 8, 8), "image": torch.ones(2, 3, 8, 8)}
    >>> find_view(batch, "image").images.max().item(), find_view(batch).path
    (1.0, 'normals')
    >>> pair = {"image": torch.zeros(2, 6, 8, 8)}
    >>> find_view(pair, "image[3:]").images.shape
    torch.Size([2, 3, 8, 8])
    """
    if isinstance(view, str) and (match := _CHANNELS.fullmatch(view)):
        return _channels_of_view(batch, view, channels or RGB_CHANNELS, *match.groups())
    views = named_views(batch, channels)
    if not views:
        raise _no_views(batch, channels or RGB_CHANNELS)
    if isinstance(view, int):
        if view < len(views):
            return views[view]
        raise ConfigError(f"view: got {view}, but the batch has {_described(views)}")
    if view is not None:
        matches = _with_name(views, view)
        if not matches:
            raise ConfigError(f"view: the batch has no {view!r}; it has {_described(views)}")
        views = matches
    return max(views, key=lambda item: item.images.shape[-2] * item.images.shape[-1])


def _channels_of_view(
    batch: Any, view: str, channels: int, name: str, first: str, last: str
) -> NamedView:
    """Channels ``first`` to ``last`` (exclusive) of the images of that name.

    Raises:
        ConfigError: no such images, or another number of channels than the backbone takes.
    """
    images = [NamedView(*item) for item in tree_items(batch, _is_images) if item[1].ndim == 4]
    matches = _with_name(images, name) if name else images
    if not matches:
        raise ConfigError(f"view: the batch has no {name!r}; it has {_described(images)}")
    whole = max(matches, key=lambda item: item.images.shape[-2] * item.images.shape[-1])
    part = whole.images[:, int(first or 0) : int(last) if last else None]
    if part.shape[1] != channels:
        raise ConfigError(
            f"view: got {view!r}, which has {part.shape[1]} channels, takes {channels}, which the "
            f"backbone takes; the batch has {_described(images)}"
        )
    return NamedView(view, part)


def _with_name(views: list[NamedView], name: str) -> list[NamedView]:
    """Views of that path; else of a path that ends so; else those in a container of that path."""
    for is_match in (
        lambda path: path == name,
        lambda path: path.endswith(f".{name}"),
        lambda path: f".{path}.".find(f".{name}.") >= 0,
    ):
        if matches := [view for view in views if is_match(view.path)]:
            return matches
    return []


def _is_images(item: Any) -> bool:
    return isinstance(item, Tensor) and item.ndim in (4, 5) and torch.is_floating_point(item)


def _unstacked(item: NamedView, channels: int) -> list[NamedView]:
    path, images = item
    if images.ndim == 4:
        return [item] if images.shape[1] == channels else []
    if images.shape[2] != channels:
        return []
    prefix = f"{path}." if path else ""
    return [NamedView(f"{prefix}{n}", view) for n, view in enumerate(images.unbind(1))]


def _described(views: list[NamedView]) -> str:
    return ", ".join(f"{path or 'one view'} {tuple(images.shape)}" for path, images in views)


def _no_views(batch: Any, channels: int) -> ConfigError:
    """The error that says what the batch has in place of views."""
    images = list(tree_items(batch, lambda item: isinstance(item, Tensor) and item.ndim in (4, 5)))
    kind = f"batch: a {type(batch).__name__} without images; SP takes floating point"
    if not images:
        return ConfigError(f"{kind} (B, {channels}, H, W)")
    stacked = [
        (path, item.shape[1] // channels)
        for path, item in images
        if _is_images(item) and item.ndim == 4 and item.shape[1] in (2 * channels, 3 * channels)
    ]
    if stacked and channels > 1:
        path, count = stacked[0]
        last = f"{path}[{(count - 1) * channels}:]"
        return ConfigError(
            f"batch: {path or 'the tensor'} has {count * channels} channels, {count} images of the "
            f"{channels} that the backbone takes; name one of them by view='{path}[:{channels}]' "
            f"or view='{last}'"
        )
    found = ", ".join(
        f"{path + ' ' if path else ''}{tuple(item.shape)} {str(item.dtype).removeprefix('torch.')}"
        for path, item in images[:4]
    )
    hint = ""
    if not any(item.is_floating_point() for _, item in images):
        hint = "; convert and normalise them before the training step, as the backbone needs them"
    return ConfigError(f"{kind} (B, {channels}, H, W), it has {found}{hint}")
