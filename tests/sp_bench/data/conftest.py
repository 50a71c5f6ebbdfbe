"""Small demo sets, made once, and folders of tiny images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sp_bench.data import DemoDataset

MakeFolder = Callable[[Mapping[str, int]], Path]


@pytest.fixture(scope="session")
def demo() -> DemoDataset:
    """Two of each of the 27 finer classes."""
    return DemoDataset(54)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Fills a folder from ``{"train/cat": 3}``: so many JPEGs, each of a colour of its own."""

    def make(counts: Mapping[str, int]) -> Path:
        rng = np.random.default_rng(0)
        for where, count in counts.items():
            folder = tmp_path / "pets" / where
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                colour = rng.integers(0, 256, (1, 1, 3), dtype=np.uint8)
                noise = rng.integers(0, 40, (24, 32, 3), dtype=np.uint8)
                pixels = np.maximum(noise, colour)
                Image.fromarray(pixels).save(folder / f"{index:04}.jpg", quality=90)
        return tmp_path / "pets"

    return make
