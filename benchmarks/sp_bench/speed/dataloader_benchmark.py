"""The data path: a transform pipeline with and without SP's crops of the original image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightly.transforms import SimCLRTransform
from PIL import Image

from sp_bench.data import DemoDataset, list_images, open_image
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.timing import interleaved, timed
from sp_plugin.crops.transform import SPTransform
from sp_plugin.sizes import shorter_side

WITHOUT, WITH = "pipeline alone", "with source=image"
_SIDES = (224, 64)  # of the views, in pixels
_VIEWS = 2  # of SimCLRTransform
_IMAGE_SIZE = (500, 375)  # width and height of most photographs in ImageNet
_COUNT, _QUICK_COUNT = 24, 2


def data_jobs(settings: SpeedSettings) -> dict[str, Callable[[], dict[str, Any]]]:
    """One measurement per size of the views.

    Raises:
        DataError: there are no images in the folder of the settings.
    """
    if settings.data:
        list_images(settings.data)
    sides = (32,) if settings.quick else _SIDES
    return {f"SimCLRTransform, {side} px": partial(measure, side, settings) for side in sides}


def measure(side: int, settings: SpeedSettings) -> dict[str, Any]:
    """Time decoding and transforming images in one process, with and without SP in turns.

    Returns:
        ``seconds`` per image, by arm and round; ``images``, their number, and ``source``, their
        origin; ``pixels``, those of SP's crops as a share of the views'.
    """
    with_sp = SPTransform(SimCLRTransform(input_size=side))
    transforms = {WITHOUT: SimCLRTransform(input_size=side), WITH: with_sp}
    with _files(settings) as paths:
        arms = {
            name: timed(partial(_load, paths, transform), 1, parts=len(paths))
            for name, transform in transforms.items()
        }
        seconds = interleaved(arms, settings.repeats)
    config = with_sp.crops.config
    share = config.num_crops * shorter_side(config.crop_size) ** 2 / (_VIEWS * side**2)
    width, height = _IMAGE_SIZE
    source = "given" if settings.data else f"the demo's, as JPEG of {width} x {height}"
    return {"seconds": seconds, "images": len(paths), "source": source, "pixels": share}


def _load(paths: Sequence[Path], transform: Callable[[Any], Any]) -> None:
    """Decode and transform images, always from the same state of the global generator."""
    torch.manual_seed(0)
    for path in paths:
        transform(open_image(path))


@contextmanager
def _files(settings: SpeedSettings) -> Iterator[list[Path]]:
    count = _QUICK_COUNT if settings.quick else _COUNT
    if settings.data:
        yield list_images(settings.data)[:count]
        return
    images = DemoDataset(count, side=96)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.jpg" for i in range(count)]
        for i, path in enumerate(paths):
            resized = images.image(i).resize(_IMAGE_SIZE, Image.Resampling.BICUBIC)
            resized.save(path, quality=90)
        yield paths
