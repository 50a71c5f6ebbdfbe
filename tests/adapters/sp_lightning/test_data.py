"""The training loaders read wrapped transforms; the user's data sets and loaders do not change."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from sp_lightning.data import WrappedTransforms
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset
from torchvision.datasets import VisionDataset


class Wrapped:
    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, item: Any) -> Any:
        return "sp", self.transform(item)


class Plain(Dataset[Any]):
    def __init__(self, transform: Any = str) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return self.transform(index)


class ClassAttribute(Plain):
    transform = repr

    def __init__(self) -> None:
        pass


class Property(Plain):
    def __init__(self) -> None:
        self.dataset = Plain()

    @property
    def transform(self) -> Any:
        return self.dataset.transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        self.dataset.transform = transform

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


class Method(Plain):
    def __init__(self) -> None:
        self.format = "{}"

    def transform(self, index: int) -> str:
        return self.format.format(index)


class Outer(Plain):
    """Its transform takes what the one inside gave."""

    def __init__(self) -> None:
        self.dataset, self.transform = Plain(), str.strip

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.dataset[index])


class Voc(VisionDataset):
    __len__ = Plain.__len__

    def __getitem__(self, index: int) -> Any:
        return self.transforms(index, 0)[0]


class Joint(Dataset[Any]):
    """Calls ``transforms`` on whole samples, as torchgeo's data sets do."""

    __len__ = Plain.__len__

    def __init__(self, transforms: Any = str) -> None:
        self.transforms = transforms

    def __getitem__(self, index: int) -> Any:
        return self.transforms(index)


class Stream(IterableDataset[Any]):
    def __init__(self) -> None:
        self.transform = str

    def __iter__(self) -> Iterator[Any]:
        yield from (self.transform(index) for index in range(3))


CASES = {
    "plain": Plain,
    "class attribute": ClassAttribute,
    "property": Property,
    "method": Method,
    "outer and inner": Outer,
    "voc": lambda: Voc("", transform=str),
    "joint": Joint,
    "subset of joint": lambda: Subset(Joint(), [0, 1, 2]),
    "subset": lambda: Subset(Subset(Plain(), [0, 1, 2]), [0, 1, 2]),
    "concat": lambda: ConcatDataset([Plain(), Subset(Plain(), [1])]),
    "iterable": Stream,
}


def items(dataset: Any) -> list[Any]:
    is_stream = isinstance(dataset, IterableDataset)
    return list(dataset) if is_stream else [dataset[i] for i in range(len(dataset))]


@pytest.mark.parametrize("name", CASES)
def test_only_the_copy_reads_wrapped(name: str) -> None:
    data, transforms = CASES[name](), WrappedTransforms(Wrapped)
    before, state = items(data), dict(vars(data))
    wrapped = transforms.wrap_dataset(data)
    assert transforms.wrap_dataset(data) is wrapped and isinstance(wrapped, type(data))
    assert items(wrapped) == [("sp", item) for item in before]
    assert items(data) == before and vars(data) == state
    for again in (pickle.loads(pickle.dumps(wrapped)), pickle.loads(pickle.dumps((0, wrapped)))[1]):
        assert items(again) == items(wrapped)
    transforms.is_active = False
    assert items(wrapped) == before


def test_each_transform_is_wrapped_once() -> None:
    made = []
    transforms = WrappedTransforms(lambda transform: made.append(transform) or Wrapped(transform))
    data = [Plain(transform := Wrapped(str)), Method(), Plain(transform)]
    for wrapped in map(transforms.wrap_dataset, data):
        items(wrapped)
    assert len(made) == 2


def test_changes_of_the_data_set_hold() -> None:
    """A schedule of the user's sets the transform, or any state, on the data set it knows."""
    data = Subset(inner := Plain(), [0, 1])
    wrapped = WrappedTransforms(Wrapped).wrap_dataset(data)
    assert wrapped[0] == ("sp", "0")
    inner.transform = hex
    assert wrapped[0] == ("sp", "0x0")
    wrapped.dataset.transform = bin
    assert inner.transform is bin and wrapped[1] == ("sp", "0b1")
    wrapped.epoch = 3
    assert data.epoch == 3


class Slots:
    __slots__ = ("transform",)

    def __init__(self) -> None:
        self.transform = str


class Table:
    def transform(self) -> None: ...


def test_what_cannot_be_wrapped_stays() -> None:
    transforms = WrappedTransforms(Wrapped)
    kinds: list[Any] = [Slots(), Table(), [1, 2], range(3), "text", None, type("L", (list,), {})()]
    assert all(transforms.wrap_dataset(item) is item for item in kinds)
    (holder := Plain()).dataset, holder.transform = Table(), None
    assert transforms.wrap_dataset(holder) is holder
    target_only = Voc("", target_transform=str)
    assert transforms.wrap_dataset(target_only) is target_only
