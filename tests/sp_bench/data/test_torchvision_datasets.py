"""torchvision's data sets, with stand-ins of the same interface."""

from __future__ import annotations

import inspect
import pickle
from typing import ClassVar
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from sp_bench.data import DataError, load_data
from sp_bench.data.torchvision_datasets import CATALOGUE
from torchvision import datasets


class FakeDataset:
    """Four grey images, brighter in each later part; records the requested parts."""

    requests: ClassVar[list[dict[str, object]]]
    shade: ClassVar[dict[str, int]] = {"train": 0, "val": 60, "test": 120}

    def __init__(self, root: str, download: bool, **part: object) -> None:
        type(self).requests.append(part)
        assert download
        self._first = self.shade[str(part["split"])]
        self._labels = [0, 1, 0, 1]
        self.classes = ["daisy", "rose"]

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (6, 5), self._first + index), self._labels[index]


@pytest.fixture
def flowers(monkeypatch, tmp_path):
    FakeDataset.requests = []
    monkeypatch.setattr(datasets, "Flowers102", FakeDataset)
    return lambda name="flowers102", **settings: load_data(
        name, download_root=tmp_path / "new" / "root", **settings
    )


def test_parts_join_in_order_as_rgb(flowers):
    splits = flowers()
    assert FakeDataset.requests == [{"split": "train"}, {"split": "val"}, {"split": "test"}]
    assert splits.name == "flowers102"
    assert splits.train.classes == ("daisy", "rose")
    assert splits.train.labels.tolist() == [0, 1] * 4
    assert splits.test.labels.tolist() == [0, 1] * 2
    shades = [splits.train[index][0].getpixel((0, 0))[0] for index in range(8)]
    assert shades == [0, 1, 2, 3, 60, 61, 62, 63]
    assert splits.test[3][0].getpixel((0, 0)) == (123, 123, 123)


@pytest.mark.parametrize("name", ["Flowers102", "flowers_102", "FLOWERS-102"])
def test_dataset_name_spelling_is_flexible(flowers, name):
    assert flowers(name).name == "flowers102"


def test_limit_applies_to_torchvision(flowers):
    assert flowers(limit=4).train.labels.bincount().tolist() == [2, 2]


def test_unlabelled_images_have_no_classes(flowers, monkeypatch):
    class Unlabelled(FakeDataset):
        shade: ClassVar[dict[str, int]] = {"unlabeled": 0, "test": 120}

        def __init__(self, root: str, download: bool, **part: object) -> None:
            super().__init__(root, download, **part)
            self._labels = [-1] * 4 if part["split"] == "unlabeled" else [0, 1, 0, 1]

    monkeypatch.setattr(datasets, "STL10", Unlabelled)
    splits = flowers("stl10-unlabeled", labelled=False)
    assert splits.train.classes == ("image",) and splits.train.labels.tolist() == [0] * 4
    with pytest.raises(DataError, match="its images have no classes"):
        flowers("stl10-unlabeled")


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route\n to host"),
        RuntimeError("File not found or corrupted."),
        ConnectionError("reset"),
    ],
)
def test_download_failure_is_one_line(monkeypatch, tmp_path, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "CIFAR10", fail)
    with pytest.raises(DataError) as raised:
        load_data("cifar10", download_root=tmp_path)
    text = str(raised.value)
    assert text.startswith(
        f"data='cifar10': it is not in {str(tmp_path)!r} and could not be downloaded ("
    )
    assert " ".join(str(error).split()) in text
    assert "\n" not in text


@pytest.mark.parametrize("name", CATALOGUE)
def test_entries_match_torchvision_arguments(name):
    entry = CATALOGUE[name]
    taken = inspect.signature(getattr(datasets, entry.dataset)).parameters
    for part in (*entry.train, entry.test):
        assert {"root", "download", *part, *entry.common} <= set(taken)
        options = getattr(taken.get("split"), "annotation", "")
        literal = getattr(options, "__args__", ())
        if "split" in part and literal:
            assert part["split"] in literal
    assert entry.test not in entry.train


def test_torchvision_cifar10_files_are_read(monkeypatch, tmp_path):
    """The real class, on files of its own format but fewer images."""
    base = tmp_path / datasets.CIFAR10.base_folder
    base.mkdir()
    rng = np.random.default_rng(0)
    names = [name for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list]
    for name in names:
        data = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
        (base / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
    meta = {"label_names": [f"thing {index}" for index in range(10)]}
    (base / "batches.meta").write_bytes(pickle.dumps(meta))
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda _: True)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *_: True)
    splits = load_data("cifar10", download_root=tmp_path)
    assert (len(splits.train), len(splits.test)) == (50, 10)
    assert splits.train.classes[3] == "thing 3"
    assert splits.test[7][1] == 7
    assert splits.test[7][0].size == (32, 32)
