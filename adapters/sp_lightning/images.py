"""Crops from the image: put into the data set's transform, and taken out of the batch again."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from sp_plugin import ConfigError, Crops, SPConfig


class CropsFromImages:
    """Lets the training data bring SP's crops: its ``transform`` becomes an `SPTransform`.

    On the instance of each data set in the training loader that has a ``transform``; one that is
    an `SPTransform` already is handed the settings.

    Args:
        trainer: fitting, with its data attached.
        config: settings of SP.
    """

    def __init__(self, trainer: Any, config: SPConfig) -> None:
        self._config = config
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
        for dataset, transform in self._changed:
            _set_transform(dataset, transform)

    def _around(self, original: Any) -> Any:
        @functools.wraps(original)
        def train_dataloader(*args: Any, **kwargs: Any) -> Any:
            loaders = original(*args, **kwargs)
            self._enter(loaders)
            return loaders

        return train_dataloader

    def _enter(self, loaders: Any) -> None:
        from sp_plugin.transforms import SPTransform  # brings torchvision, which only this needs

        for dataset in _datasets(loaders):
            transform = getattr(dataset, "transform", None)
            if transform is None:
                continue
            if not isinstance(transform, SPTransform):
                self._changed.append((dataset, transform))
                transform = SPTransform(transform)
                _set_transform(dataset, transform)
            transform.settle(self._config)


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


def unwrap(batch: Any) -> tuple[Any, Crops | None]:
    """The host's own batch, and the crops that an `SPTransform` put beside its views.

    >>> import torch
    >>> sp = {"crops": torch.zeros(4, 2, 3, 8, 8), "boxes": torch.zeros(4, 2, 4)}
    >>> batch, crops = unwrap([{"views": [1, 2], "sp": sp}, "label"])
    >>> batch, crops.pixels.shape
    ([[1, 2], 'label'], torch.Size([8, 3, 8, 8]))
    """
    if isinstance(batch, Mapping):
        if set(batch) == {"views", "sp"}:
            return batch["views"], Crops.collated(batch["sp"])
        changed: Any = {key: unwrap(value) for key, value in batch.items()}
        found = _first(crops for _, crops in changed.values())
        return ({key: own for key, (own, _) in changed.items()} if found else batch), found
    if type(batch) in (list, tuple):
        parts = [unwrap(item) for item in batch]
        found = _first(crops for _, crops in parts)
        return (type(batch)(own for own, _ in parts) if found else batch), found
    return batch, None


def _first(crops: Any) -> Crops | None:
    return next((found for found in crops if found is not None), None)


def asked_about(source: str, view: Tensor, crops: Crops | None) -> Tensor | Crops:
    """What SP takes in this step: the host's view, or the crops that came with the batch.

    Raises:
        ConfigError: the data bring what the setting does not say, or lack it.
    """
    if source == "view":
        if crops is None:
            return view
        raise ConfigError(
            "source: got 'view', but the data set's SPTransform brings crops of the image; "
            "say SPCallback(source='image')"
        )
    if crops is None:
        raise ConfigError(
            "source: got 'image', but the batch brings no crops: wrap the data set's "
            "transform in sp_plugin.transforms.SPTransform, or take source='view'"
        )
    return crops
