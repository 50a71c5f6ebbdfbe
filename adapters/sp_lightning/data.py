"""Transforms of the training data, wrapped during fit so that batches bring what SP needs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader

from sp_plugin import SPConfig
from sp_plugin.nested import tree_leaves


class TransformPatcher:
    """Wraps the ``transform`` of each data set in the training loaders, on the instance.

    Args:
        trainer: Trainer that is fitting, with its data attached.
        wrap: function from a transform to its replacement, which may be itself.
    """

    def __init__(self, trainer: Any, wrap: Callable[[Any], Any]) -> None:
        self._wrap = wrap
        self._originals: list[tuple[Any, Any]] = []  # (data set, its own transform)
        self._source: Any = None
        # Private, and only read: Lightning starts the loader's workers in the first public call
        # that returns it (FitLoop.setup_data), and then it is too late for them.
        source = trainer.fit_loop._data_source.instance
        if callable(getattr(source, "train_dataloader", None)):  # the module, or a datamodule
            self._source = source
            source.train_dataloader = self._patched_loader_fn(source.train_dataloader)
        else:
            self._patch(source)

    def remove(self) -> None:
        """Restore every transform."""
        if self._source is not None:
            self._source.__dict__.pop("train_dataloader", None)
        for dataset, transform in reversed(self._originals):
            _set_transform(dataset, transform)

    def _patched_loader_fn(self, original: Any) -> Any:
        @functools.wraps(original)
        def train_dataloader(*args: Any, **kwargs: Any) -> Any:
            loaders = original(*args, **kwargs)
            self._patch(loaders)
            return loaders

        return train_dataloader

    def _patch(self, loaders: Any) -> None:
        for dataset in _datasets(loaders):
            transform = getattr(dataset, "transform", None)
            if transform is None:
                continue
            wrapped = self._wrap(transform)
            if wrapped is not transform:
                self._originals.append((dataset, transform))
                _set_transform(dataset, wrapped)


def wrap_with_crops(config: SPConfig) -> Callable[[Any], Any]:
    """For `TransformPatcher`: wraps transforms in an `SPTransform` with these settings."""
    from sp_plugin import SPTransform  # imports torchvision, which only this source needs

    def wrap(transform: Any) -> Any:
        wrapped = transform if isinstance(transform, SPTransform) else SPTransform(transform)
        wrapped.set_config(config)
        return wrapped

    return wrap


def _set_transform(dataset: Any, transform: Any) -> None:
    dataset.transform = transform
    # torchvision's VOC, COCO and similar use this copy of it (StandardTransform).
    if hasattr(getattr(dataset, "transforms", None), "transform"):
        dataset.transforms.transform = transform


def _is_loader(item: Any) -> bool:
    return not isinstance(item, (Mapping, list, tuple))


def _datasets(loaders: Any) -> Iterator[Any]:
    """Every data set in a loader, or a collection of loaders, down to the innermost."""
    for item in tree_leaves(loaders, _is_loader):
        dataset = item.dataset if isinstance(item, DataLoader) else item
        yield dataset
        for name in ("dataset", "datasets"):  # Subset; ConcatDataset and similar
            if (inner := getattr(dataset, name, None)) is not None:
                yield from _datasets(inner)
