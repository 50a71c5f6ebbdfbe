"""The data path: a host's pipeline with SP's crops of the image beside its views, and without."""

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
from sp_bench.speed.timing import Stopwatch, interleaved
from sp_plugin.crops.transform import SPTransform

WITHOUT, WITH = "pipeline alone", "with source=image"
_SIDES = (224, 64)  # of the host's views, in pixels
_PICTURE = (500, 375)  # as photographs of ImageNet mostly are
_COUNT, _QUICK_COUNT = 24, 2


def data_jobs(settings: SpeedSettings) -> dict[str, Callable[[], dict[str, Any]]]:
    """A measurement for each size of the host's views.

    Raises:
        DataError: there are no images where the settings say.
    """
    if settings.data:
        list_images(settings.data)
    sides = (32,) if settings.quick else _SIDES
    return {f"SimCLRTransform, {side} px": partial(measure, side, settings) for side in sides}


def measure(side: int, settings: SpeedSettings) -> dict[str, Any]:
    """Time decoding and transforming images in one process, both ways in turns.

    Returns:
        ``seconds`` for each image, rounds by way; ``images``, how many there were, and
        ``source``, what they are; ``pixels``, those of SP's crops as a share of the views'.
    """
    host = SimCLRTransform(input_size=side)
    with _files(settings) as paths:
        both = SPTransform(SimCLRTransform(input_size=side))
        ways = {WITHOUT: host, WITH: both}
        arms = {name: partial(_turn, paths, transform) for name, transform in ways.items()}
        taken = interleaved(arms, settings.repeats)
    share = (both.crops.config.crop_size / side) ** 2  # two crops, two views
    source = "given" if settings.data else f"the demo's, as JPEG of {_PICTURE[0]} x {_PICTURE[1]}"
    return {"seconds": taken, "images": len(paths), "source": source, "pixels": share}


def _turn(paths: Sequence[Path], transform: Callable[[Any], Any]) -> list[float]:
    """Each image once; both ways draw from the same state of the host's generator."""
    torch.manual_seed(0)
    watch = Stopwatch(torch.device("cpu"))
    for path in paths:
        watch.start()
        transform(open_image(path))
        watch.stop()
    return watch.read()


@contextmanager
def _files(settings: SpeedSettings) -> Iterator[list[Path]]:
    count = _QUICK_COUNT if settings.quick else _COUNT
    if settings.data:
        yield list_images(settings.data)[:count]
        return
    images = DemoDataset(count)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.jpg" for i in range(count)]
        for i, path in enumerate(paths):
            images.image(i).resize(_PICTURE, Image.Resampling.BICUBIC).save(path, quality=90)
        yield paths
