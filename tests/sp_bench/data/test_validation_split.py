"""The validation split: of the training images alone, and the same whatever the limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sp_bench.data import ImageDataset, load_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    level = 0
    for split, count in (("train", 20), ("test", 5)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                level += 1  # an image is identified by its grey level
                pixels = np.full((8, 8, 3), level, np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def grey_levels(images: ImageDataset) -> set[int]:
    return {images[i][0].getpixel((0, 0))[0] for i in range(len(images))}


def test_validation_is_a_fifth_of_train(folder: Path) -> None:
    plain, held = load_data(str(folder)), load_data(str(folder), validation=True)
    assert (len(held.train), len(held.test)) == (32, 8)
    assert held.test.labels.bincount().tolist() == [4, 4]
    assert grey_levels(held.train) | grey_levels(held.test) == grey_levels(plain.train)
    assert not grey_levels(held.train) & grey_levels(held.test)
    assert not grey_levels(plain.test) & (grey_levels(held.train) | grey_levels(held.test))
    assert held.name == f"{folder.name}, validation"


def test_limit_keeps_validation_split(folder: Path) -> None:
    held = load_data(str(folder), validation=True)
    few = load_data(str(folder), validation=True, limit=10)
    assert grey_levels(few.test) == grey_levels(held.test)
    assert len(few.train) == 10 and grey_levels(few.train) < grey_levels(held.train)


def test_demo_has_validation_split() -> None:
    plain, held = load_data("demo", size=60), load_data("demo", size=60, validation=True)
    assert len(held.train) + len(held.test) == len(plain.train)
