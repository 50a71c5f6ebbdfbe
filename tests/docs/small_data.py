"""Small data where the blocks look for them: ``python small_data.py FOLDER``."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def make_images(folder: Path, classes: int = 2, count: int = 10) -> Path:
    """A folder of images, one subfolder per class, the same each time."""
    draws = random.Random(0)
    for index in range(classes * count):
        path = folder / f"class{index % classes}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.frombytes("RGB", (8, 8), draws.randbytes(192))
        coarse.resize((72, 64), Image.Resampling.BICUBIC).save(path)
    return folder


def make_bands(folder: Path, classes: int = 2, count: int = 90, channels: int = 13) -> Path:
    """A folder of arrays (C, H, W) of uint16, one subfolder per class, the same each time."""
    draws = np.random.default_rng(0)
    for index in range(classes * count):
        path = folder / f"class{index % classes}" / f"{index}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, draws.integers(0, 4000, (channels, 24, 32), dtype=np.uint16))
    return folder


def make_imagenet(folder: Path) -> None:
    """What the configs of OpenMMLab take for ImageNet: ``train``, ``val`` and lists of both."""
    (folder / "meta").mkdir(parents=True)
    for split in ("train", "val"):
        files = sorted(make_images(folder / split).rglob("*.png"))
        names = [f"{path.relative_to(folder / split)} {path.parent.name[-1]}\n" for path in files]
        (folder / "meta" / f"{split}.txt").write_text("".join(names))


if __name__ == "__main__":
    make_images(Path(sys.argv[1]))
