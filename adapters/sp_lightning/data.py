"""The training data, as SP needs them: the loaders that train read wrapped transforms.

Nothing of the user's is changed. A loader that trains is a shallow copy of the user's, and its
data set a second object with the same state (one ``__dict__``), of which ``transform`` reads as
the wrapped one. So validation and online probes that share a data set, or its transform, with
training get what they get without SP, and what the user sets on a data set during training holds.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import DataLoader, Dataset

from sp_lightning.lightly_train import is_lightly_train, refuse_crops
from sp_lightning.method_patching import PatchedMethods
from sp_plugin import ConfigError, SPConfig
from sp_plugin.config import ResolvedConfig
from sp_plugin.nested import container_items, replace_items


class TrainingData:
    """Wraps the transforms that a Trainer's training loaders read.

    Args:
        trainer: Trainer that is fitting, with its data attached.
        wrap: function from a transform to its replacement, which may be itself.

    Attributes:
        error: why the transforms could not be wrapped. It is not raised where the loaders are read:
            Lightning patches the class ``DataLoader`` there, and an error would leave it patched.
    """

    def __init__(self, trainer: Any, wrap: Callable[[Any], Any]) -> None:
        self.error: ConfigError | None = None
        self._transforms = WrappedTransforms(wrap)
        # Private: Lightning starts the loader's workers in the first public call that returns it
        # (FitLoop.setup_data), and then it is too late for them.
        self._source = PatchedMethods(trainer.fit_loop._data_source)
        self._source.patch("dataloader", self._dataloader)

    def remove(self) -> None:
        """Let every loader read the transforms as they are."""
        self._source.remove()
        self._transforms.is_active = False

    def _dataloader(self, original: Callable[[], Any]) -> Any:
        loaders = original()
        try:
            return self._wrap_loaders(loaders)
        except ConfigError as error:
            self.error = error
            return loaders

    def _wrap_loaders(self, loaders: Any) -> Any:
        """A loader, or any collection of loaders, over data sets with wrapped transforms."""
        if isinstance(loaders, (Mapping, list, tuple)):
            wrapped = {key: self._wrap_loaders(item) for key, item in container_items(loaders)}
            return replace_items(loaders, wrapped)
        if hasattr(loaders, "flattened"):  # Lightning's CombinedLoader
            combined = copy.copy(loaders)
            combined.flattened = [self._wrap_loaders(loader) for loader in loaders.flattened]
            return combined
        if not isinstance(loaders, DataLoader):
            return self._transforms.wrap_dataset(loaders)
        return self._wrap_loader(loaders)

    def _wrap_loader(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        dataset, wrapped = loader.dataset, self._transforms.wrap_dataset(loader.dataset)

        def replace(value: Any) -> Any:
            if type(value) is dict:
                return {key: replace(item) for key, item in value.items()}
            if type(value) is tuple:
                return tuple(replace(item) for item in value)
            return wrapped if value is dataset else value

        loader = copy.copy(loader)
        # DataLoader refuses to set it. Lightning, which builds loaders anew with a distributed
        # sampler, has stored it once more, with the arguments of a loader made in a hook.
        vars(loader).update(replace(vars(loader)))
        # Workers that were started before read the transforms as they were.
        vars(loader)["_iterator"] = None
        return loader


class WrappedTransforms:
    """Data sets whose transforms read as wrapped; each transform is wrapped once.

    Args:
        wrap: function from a transform to its replacement, which may be itself.

    Attributes:
        is_active: whether they do.

    >>> class Data:
    ...     def __init__(self): self.transform = str.upper
    ...     def __getitem__(self, index): return self.transform("abc"[index])
    >>> transforms, data = WrappedTransforms(lambda transform: lambda x: [transform(x)]), Data()
    >>> transforms.wrap_dataset(data)[0], data[0]
    (['A'], 'A')
    """

    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        self.is_active = True
        self._wrap = wrap
        self._replacements: dict[Any, tuple[Any, Any]] = {}  # with the transform, by its key
        self._datasets: dict[int, tuple[Any, Any]] = {}  # likewise

    def __getstate__(self) -> dict[str, Any]:
        # In a worker that was spawned objects have other ids, and data sets are wrapped there.
        pairs = list(self._replacements.values())
        return {**vars(self), "_replacements": pairs, "_datasets": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        pairs = {_key(pair[0]): pair for pair in state["_replacements"]}
        self.__dict__.update({**state, "_replacements": pairs})

    def wrap(self, transform: Any) -> Any:
        """The transform's replacement; itself where it is none."""
        if not self.is_active or not callable(transform):
            return transform
        if (key := _key(transform)) not in self._replacements:
            self._replacements[key] = transform, self._wrap(transform)
        return self._replacements[key][1]

    def wrap_dataset(self, dataset: Any) -> Any:
        """The data set with wrapped transforms, of a subclass of its own class.

        Data sets inside (of a Subset, a ConcatDataset) count; where one with a transform of its
        own has another inside, only the outer transform. Itself where nothing is to be wrapped, or
        its class allows no such object.
        """
        if id(dataset) not in self._datasets:
            self._datasets[id(dataset)] = dataset, dataset  # should it be inside of itself
            self._datasets[id(dataset)] = dataset, self._with_properties(dataset)
        return self._datasets[id(dataset)][1]

    def _wrap_inner(self, inner: Any) -> Any:
        """A data set, or a list of them, that is part of another."""
        if not isinstance(inner, (list, tuple)):
            return self.wrap_dataset(inner)
        wrapped = [self.wrap_dataset(dataset) for dataset in inner]
        is_same = all(new is old for new, old in zip(wrapped, inner, strict=True))
        return inner if is_same else type(inner)(wrapped)

    def _wrap_standard(self, transforms: Any) -> Any:
        """For torchvision's VOC, COCO and similar, which use this copy of ``transform``."""
        if hasattr(transforms, "transform"):
            transforms = copy.copy(transforms)
            transforms.transform = self.wrap(transforms.transform)
        return transforms

    def _with_properties(self, dataset: Any) -> Any:
        readers: dict[str, Callable[[Any], Any]] = {}
        transform = getattr(dataset, "transform", None)
        if inspect.ismethod(transform) and not isinstance(dataset, Dataset):
            return dataset  # such as a DataFrame
        if self.wrap(transform) is not transform:
            readers["transform"] = self.wrap
            if hasattr(dataset, "transforms"):
                readers["transforms"] = self._wrap_standard
        elif transform is None and self.wrap(joint := _joint_transform(dataset)) is not joint:
            readers["transforms"], transform = self.wrap, joint
        for name in ("dataset", "datasets"):
            inner = getattr(dataset, name, None)
            # LightlyDataset's transform is that of the data set inside.
            inner_transform = getattr(inner, "transform", None)
            is_innermost = callable(transform) and inner_transform != transform
            if not is_innermost and self._wrap_inner(inner) is not inner:
                readers[name] = self._wrap_inner
        return _read_through(dataset, readers, self) if readers else dataset


def _joint_transform(dataset: Any) -> Any:
    """Transform of whole samples under the name ``transforms``, as torchgeo's data sets have it.

    torchvision's have one of image and target by that name, unless it is made of ``transform``.
    """
    joint = getattr(dataset, "transforms", None)
    return None if hasattr(joint, "transform") or not isinstance(dataset, Dataset) else joint


def _key(transform: Any) -> tuple[int, int]:
    """Identity of a transform; a method is another object each time that it is read."""
    owner = getattr(transform, "__self__", None)
    return id(getattr(transform, "__func__", transform)), id(getattr(owner, "__dict__", owner))


def _read_through(
    dataset: Any, readers: Mapping[str, Callable[[Any], Any]], transforms: WrappedTransforms
) -> Any:
    """An object with the state of ``dataset`` whose attributes are read through functions.

    Args:
        dataset: any object with a ``__dict__``.
        readers: function from an attribute's value to what is read, by the attribute's name.
        transforms: what wraps the data set again where the object is unpickled.
    """
    base: Any = type(dataset)

    def plain(this: Any) -> Any:
        original = object.__new__(base)
        object.__setattr__(original, "__dict__", vars(this))
        return original

    def attribute(name: str, read: Callable[[Any], Any]) -> property:
        return property(
            lambda this: read(getattr(plain(this), name)),
            lambda this, value: setattr(plain(this), name, value),
        )

    members: dict[str, Any] = {name: attribute(name, read) for name, read in readers.items()}
    members["__module__"] = base.__module__
    members["__reduce_ex__"] = lambda this, _: (_wrap_again, (transforms, plain(this)))
    try:
        this = object.__new__(type(base)(base.__name__, (base,), members))
        object.__setattr__(this, "__dict__", vars(dataset))
    except (TypeError, AttributeError):  # of a subclass of list, or of a class with slots
        return dataset
    return this


def _wrap_again(transforms: WrappedTransforms, dataset: Any) -> Any:
    return transforms.wrap_dataset(dataset)


class CropsWrapper:
    """For `TrainingData`: wraps transforms in an `SPTransform`.

    Args:
        config: settings of SP.
    """

    def __init__(self, config: SPConfig) -> None:
        self._config = config

    def take_shape_of(self, resolved: ResolvedConfig) -> None:
        """Cut crops of the one shape that the backbone takes, where that is no square."""
        if self._config.crop_size is None and isinstance(resolved.crop_size, tuple):
            self._config = dataclasses.replace(self._config, crop_size=resolved.crop_size)

    def __call__(self, transform: Any) -> Any:
        """The transform in an `SPTransform` with these settings; itself where it is one already.

        Raises:
            ConfigError: a transform of lightly-train.
        """
        from sp_plugin import SPTransform  # imports torchvision, which only this source needs

        if is_lightly_train(transform):
            raise refuse_crops()
        wrapped = transform if isinstance(transform, SPTransform) else SPTransform(transform)
        wrapped.set_config(self._config)
        return wrapped
