"""Batches: SP's part is split off, everything else stays the same object."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict, namedtuple
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate
from torchvision import transforms

from sp_plugin import ConfigError, Crops, SPTransform, ViewBoxes, ViewBoxTransform
from sp_plugin.batch import split_batch, to_device, validate_source
from sp_plugin.structures import UncoloredCrops

Sample = namedtuple("Sample", ["image", "label"])


def crops_part() -> dict[str, torch.Tensor]:
    return {"crops": torch.rand(4, 2, 3, 8, 8), "boxes": torch.rand(4, 2, 4)}


def uncolored_part() -> dict[str, torch.Tensor]:
    return {**crops_part(), "normalization": torch.ones(4, 3, 3)}


def boxes_part() -> dict[str, torch.Tensor]:
    return {"boxes": torch.rand(4, 3, 4), "flips": torch.ones(4, 3, 2)}


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(2, 3, 8, 8),
        [torch.zeros(2, 3, 8, 8), torch.zeros(2)],
        (torch.zeros(2), [torch.zeros(2)]),
        {"image": [torch.zeros(2)], "label": torch.zeros(2)},
        {"views": [torch.zeros(2)]},
        {"views": torch.zeros(2), "sp": crops_part(), "label": 1},
        Sample(torch.zeros(2), 1),
        "text",
        None,
        [],
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_batch_without_sp_is_the_same_object(batch: Any):
    rest, sp_batch = split_batch(batch)
    assert rest is batch and sp_batch is None


@dataclasses.dataclass
class LabelledViews:
    image: Any
    label: Any


@pytest.mark.parametrize(
    "make",
    [
        Sample,
        LabelledViews,
        lambda image, label: UserDict(image=image, label=label),
        lambda image, label: OrderedDict(image=image, label=label),
    ],
    ids=["NamedTuple", "dataclass", "UserDict", "OrderedDict"],
)
def test_sp_part_leaves_container_type(make):
    part = crops_part()
    batch = make({"views": "v", "sp": part}, 1)
    rest, sp_batch = split_batch(batch)
    assert type(rest) is type(batch) and rest == make("v", 1)
    assert torch.equal(sp_batch.boxes, Crops.from_batch(part).boxes)


def test_collated_named_tuples_are_split():
    transform = SPTransform(lambda image: image)
    samples = [Sample(transform(torch.rand(3, 40, 40)), label) for label in range(3)]
    rest, sp_batch = split_batch(default_collate(samples))
    assert type(rest) is Sample and rest.image.shape == (3, 3, 40, 40)
    assert type(sp_batch) is UncoloredCrops
    assert sp_batch.normalization.shape == (3, 3, 3)


@pytest.mark.parametrize("source", ["image", "host_views"])
def test_sp_part_in_changed_sample_is_named(source):
    for part in (crops_part(), uncolored_part(), boxes_part()):
        batch = [{"views": torch.zeros(2), "sp": part, "label": 1}]
        rest, sp_batch = split_batch(batch)
        with pytest.raises(ConfigError, match=r"SP's part of the batch is at '0.sp' by itself"):
            validate_source(source, sp_batch, rest)


def test_views_and_labels_keep_identity():
    views, labels, meta = [torch.zeros(2), torch.ones(2)], torch.arange(2), {"path": ["a", "b"]}
    batch = [{"views": views, "sp": crops_part()}, labels, meta]
    rest, _ = split_batch(batch)
    assert type(rest) is list and len(rest) == 3
    assert rest[0] is views and rest[1] is labels and rest[2] is meta
    assert set(batch[0]) == {"views", "sp"}  # the given batch is not changed


@pytest.mark.parametrize("part", [crops_part, uncolored_part, boxes_part])
@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda sample, other: sample, lambda rest: [rest]),
        (lambda sample, other: [sample, other], list),
        (lambda sample, other: (sample, other), list),
        (lambda sample, other: {"image": sample, "x": other}, lambda rest: list(rest.values())),
        (
            lambda sample, other: [0, ({"a": (sample,)}, other)],
            lambda rest: [*rest[1][0]["a"], rest[1][1]],
        ),
    ],
    ids=["alone", "list", "tuple", "dict", "nested"],
)
def test_sp_part_is_found_in_any_container(part, wrap, unwrap):
    views, other, sp = [torch.zeros(4, 3, 8, 8)], {"label": torch.zeros(4)}, part()
    batch = wrap({"views": views, "sp": sp}, other)
    rest, sp_batch = split_batch(batch)
    kinds = {crops_part: Crops, uncolored_part: UncoloredCrops, boxes_part: ViewBoxes}
    assert type(sp_batch) is kinds[part]
    expected = (Crops if "crops" in sp else ViewBoxes).from_batch(sp)
    tensors = [item for item in sp_batch if item is not None]
    assert len(tensors) == len(sp) and all(map(torch.equal, tensors, expected))
    found = unwrap(rest)
    assert found[0] is views and all(item is other for item in found[1:])
    if isinstance(batch, (list, tuple)):
        assert type(rest) is type(batch) and len(rest) == len(batch)
    again, none = split_batch(rest)
    assert again is rest and none is None


def test_containers_keep_type_and_order():
    sample = {"views": "v", "sp": crops_part()}
    untouched = [1, (2,)]
    rest, _ = split_batch({"b": (sample, 1), "a": untouched, "c": [[sample]]})
    assert list(rest) == ["b", "a", "c"]
    assert rest["b"] == ("v", 1) and rest["c"] == [["v"]] and rest["a"] is untouched


def test_first_of_several_parts_is_returned():
    first, second = crops_part(), crops_part()
    rest, sp_batch = split_batch([{"views": 1, "sp": first}, {"views": 2, "sp": second}])
    assert rest == [1, 2] and torch.equal(sp_batch.boxes, Crops.from_batch(first).boxes)


class TwoViews:
    def __init__(self) -> None:
        crop = transforms.RandomResizedCrop(16)
        self.parts = [transforms.Compose([crop, transforms.ToTensor()]) for _ in range(2)]

    def __call__(self, image: Any) -> list[torch.Tensor]:
        return [part(image) for part in self.parts]


@pytest.mark.parametrize(
    ("wrapper", "kind"), [(SPTransform, UncoloredCrops), (ViewBoxTransform, ViewBoxes)]
)
def test_collated_samples_are_split(wrapper, kind):
    image = transforms.ToPILImage()(torch.rand(3, 40, 40))
    transform = wrapper(TwoViews())
    samples = [(transform(image), label) for label in range(3)]
    batch = default_collate(samples)
    (views, labels), sp_batch = split_batch(batch)
    assert views is batch[0]["views"] and labels is batch[1]
    assert [tuple(view.shape) for view in views] == [(3, 3, 16, 16)] * 2
    assert type(sp_batch) is kind
    for index, (sample, _) in enumerate(samples):
        assert torch.equal(sp_batch.boxes[:, index], sample["sp"]["boxes"])


@pytest.mark.parametrize("kind", [Crops, ViewBoxes])
def test_to_device_moves_each_part(kind):
    moved = to_device(kind(torch.rand(2, 4, 4), torch.rand(8, 3, 2, 2)), torch.device("meta"))
    assert type(moved) is kind and {part.device.type for part in moved} == {"meta"}


def test_to_device_keeps_channel_order():
    sample = UncoloredCrops(*map(torch.rand, ((2, 4, 4), (8, 3, 2, 2), (4, 3, 3))), (2, 1, 0))
    moved = to_device(sample, torch.device("meta"))
    assert {part.device.type for part in moved[:3]} == {"meta"} and moved.channels == (2, 1, 0)


CROPS = Crops(torch.rand(2, 4, 4), torch.rand(8, 3, 8, 8))
UNCOLORED = UncoloredCrops(*CROPS, torch.ones(4, 3, 3))
VIEW_BOXES = ViewBoxes(torch.rand(2, 4, 4), torch.ones(2, 4, 2))


@pytest.mark.parametrize(
    ("source", "sp_batch"),
    [("view", None), ("image", CROPS), ("image", UNCOLORED), ("host_views", VIEW_BOXES)],
)
def test_fitting_source_is_accepted(source, sp_batch):
    validate_source(source, sp_batch)


@pytest.mark.parametrize(
    ("source", "sp_batch", "message"),
    [
        ("view", CROPS, "SPTransform is for source='image'; set source='image'"),
        (
            "view",
            VIEW_BOXES,
            "ViewBoxTransform is for source='host_views'; set source='host_views'",
        ),
        ("image", None, "crops: wrap the data set's transform in sp_plugin.SPTransform"),
        ("image", VIEW_BOXES, "ViewBoxTransform is for source='host_views'"),
        ("host_views", None, "wrap the data set's transform in sp_plugin.ViewBoxTransform"),
        ("host_views", CROPS, "SPTransform is for source='image'"),
        ("view", UNCOLORED, "SPTransform is for source='image'; set source='image'"),
    ],
)
def test_other_source_is_refused_in_one_line(source, sp_batch, message):
    with pytest.raises(ConfigError) as caught:
        validate_source(source, sp_batch)
    line = str(caught.value)
    assert line.startswith(f"source: got {source!r}, but ") and "\n" not in line
    assert message in line
