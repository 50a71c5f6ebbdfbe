"""What SP needs of the training data: put round their transforms, and taken out of the batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader

from sp_plugin import ConfigError, Crops, SPConfig
from sp_plugin.views.transform import ViewBoxes

# What came with a batch beside the host's own: crops of the images, or where the views lie.
SPBatch = Crops | ViewBoxes


class TransformPatcher:
    """Lets the training data bring what SP asks about: something stands round their ``transform``.

    On the instance of each data set in the training loader that has a ``transform``.

    Args:
        trainer: fitting, with its data attached.
        wrap: what is to stand in a transform's place; the transform itself where that will do.
    """

    def __init__(self, trainer: Any, wrap: Callable[[Any], Any]) -> None:
        self._wrap = wrap
        self._changed: list[tuple[Any, Any]] = []
        self._source: Any = None
        # Private, and only read: Lightning starts the loader's workers in the first call that
        # would give it openly (FitLoop.setup_data), and then it is too late for them.
        given = trainer.fit_loop._data_source.instance
        if callable(getattr(given, "train_dataloader", None)):  # the module, or a datamodule
            self._source = given
            given.train_dataloader = self._around(given.train_dataloader)
        else:
            self._enter(given)

    def remove(self) -> None:
        """Put every transform back."""
        if self._source is not None:
            self._source.__dict__.pop("train_dataloader", None)
        for dataset, transform in reversed(self._changed):
            _set_transform(dataset, transform)

    def _around(self, original: Any) -> Any:
        @functools.wraps(original)
        def train_dataloader(*args: Any, **kwargs: Any) -> Any:
            loaders = original(*args, **kwargs)
            self._enter(loaders)
            return loaders

        return train_dataloader

    def _enter(self, loaders: Any) -> None:
        for dataset in _datasets(loaders):
            transform = getattr(dataset, "transform", None)
            if transform is None:
                continue
            wrapped = self._wrap(transform)
            if wrapped is not transform:
                self._changed.append((dataset, transform))
                _set_transform(dataset, wrapped)


def wrap_with_crops(config: SPConfig) -> Callable[[Any], Any]:
    """For `TransformPatcher`: an `SPTransform`; these settings, where one is there already."""
    from sp_plugin.crops.transform import SPTransform  # brings torchvision, which only this needs

    def wrap(transform: Any) -> Any:
        wrapped = transform if isinstance(transform, SPTransform) else SPTransform(transform)
        wrapped.set_config(config)
        return wrapped

    return wrap


def _set_transform(dataset: Any, transform: Any) -> None:
    dataset.transform = transform
    # torchvision's VOC, COCO and their kin use this copy of it (StandardTransform).
    if hasattr(getattr(dataset, "transforms", None), "transform"):
        dataset.transforms.transform = transform


def _datasets(item: Any) -> Iterator[Any]:
    """Every data set in a loader, or a collection of loaders, down to the innermost."""
    if isinstance(item, Mapping):
        item = list(item.values())
    if isinstance(item, (list, tuple)):
        for part in item:
            yield from _datasets(part)
        return
    if isinstance(item, DataLoader):
        item = item.dataset
    yield item
    for name in ("dataset", "datasets"):  # Subset; ConcatDataset and its kin
        if (inner := getattr(item, name, None)) is not None:
            yield from _datasets(inner)


def split_batch(batch: Any) -> tuple[Any, SPBatch | None]:
    """The host's own batch, and what an `SPTransform` or an `SPViews` put beside its views.

    >>> import torch
    >>> sp = {"crops": torch.zeros(4, 2, 3, 8, 8), "boxes": torch.zeros(4, 2, 4)}
    >>> batch, crops = unwrap([{"views": [1, 2], "sp": sp}, "label"])
    >>> batch, crops.pixels.shape
    ([[1, 2], 'label'], torch.Size([8, 3, 8, 8]))
    """
    if isinstance(batch, Mapping):
        if set(batch) == {"views", "sp"}:
            kind = Crops if "crops" in batch["sp"] else ViewBoxes
            return batch["views"], kind.from_batch(batch["sp"])
        changed: Any = {key: split_batch(value) for key, value in batch.items()}
        found = _first(beside for _, beside in changed.values())
        return ({key: own for key, (own, _) in changed.items()} if found else batch), found
    if type(batch) in (list, tuple):
        parts = [split_batch(item) for item in batch]
        found = _first(beside for _, beside in parts)
        return (type(batch)(own for own, _ in parts) if found else batch), found
    return batch, None


def _first(found: Any) -> SPBatch | None:
    return next((beside for beside in found if beside is not None), None)


def on_device(beside: SPBatch | None, device: Any) -> SPBatch | None:
    """What came with a batch; taken out before the batch went to the device, it goes there too."""
    return beside and type(beside)(*(part.to(device, non_blocking=True) for part in beside))


_NEEDS: dict[str, tuple[type | None, str]] = {
    "view": (None, ""),
    "image": (
        Crops,
        "crops: wrap the data set's transform in sp_plugin.crops.transform.SPTransform",
    ),
    "host": (
        ViewBoxes,
        "places of its views: wrap the data set's transform in sp_plugin.views.transform.SPViews",
    ),
}


def validate_source(source: str, beside: SPBatch | None) -> None:
    """Compare what came with a batch with the setting.

    Raises:
        ConfigError: the data bring what the setting does not say, or lack it.
    """
    kind, needed = _NEEDS[source]
    if beside is None:
        if kind is not None:
            raise ConfigError(
                f"source: got {source!r}, but the batch brings no {needed}, or take source='view'"
            )
    elif kind is None or not isinstance(beside, kind):
        brings = "image" if isinstance(beside, Crops) else "host"
        wrapper = "SPTransform" if brings == "image" else "SPViews"
        raise ConfigError(
            f"source: got {source!r}, but the data set's {wrapper} is for source={brings!r}; "
            f"say SPCallback(source={brings!r})"
        )
