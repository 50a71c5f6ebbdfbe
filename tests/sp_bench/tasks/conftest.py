"""Pictures made from arrays, and a small network: what the tests of all tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from sp_bench.data.demo_cues import DemoCues
from sp_bench.data.dense import DensePictures
from sp_bench.data.pictures import Pictures, Splits
from sp_bench.features import FrozenBackbone
from sp_bench.tasks import Subject, Task, dense_probe
from threadpoolctl import threadpool_limits
from torch import nn


class Arrays(Pictures):
    """Pictures from an array.

    Args:
        pixels: (N, H, W, 3), uint8.
        labels: (N,).
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels = pixels
        self.labels = torch.as_tensor(labels, dtype=torch.int64)
        self.classes = tuple(f"class {index}" for index in range(int(self.labels.max()) + 1))

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What is so small is faster on one core, and far faster where others are at work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes that are trained step by step take a few."""
    monkeypatch.setattr(dense_probe, "_EPOCHS", 2)
    monkeypatch.setattr(dense_probe, "_STEPS", 2)


@pytest.fixture
def arrays() -> type[Arrays]:
    return Arrays


@pytest.fixture
def tints() -> Splits:
    """Four classes of noise, each with a tint of its own that does not always show, 48 px."""
    rng = np.random.default_rng(0)

    def part(count: int) -> Arrays:
        labels = np.arange(count) % 4
        tint = np.array([[90, 0, 0], [0, 90, 0], [0, 0, 90], [60, 60, 0]])[labels]
        strength = rng.uniform(0, 1, (count, 1))
        noise = rng.integers(0, 160, (count, 48, 48, 3))
        return Arrays((noise + (tint * strength)[:, None, None]).astype(np.uint8), labels)

    return Splits("tints", part(60), part(40))


class Valued(DensePictures):
    """Pictures with a value for each pixel, which their own red tells."""

    def __init__(self, source: Arrays, names: tuple[str, ...], scale: float) -> None:
        self.source, self.names, self._scale = source, names, scale
        self.labels, self.classes = source.labels, source.classes

    def picture(self, index: int) -> Image.Image:
        return self.source.picture(index)

    def values(self, index: int) -> np.ndarray:
        red = self.source.pixels[index, ..., 0]
        if self.names:
            return (red > 128).astype(np.uint8)
        return (1 + red * self._scale).astype(np.float32)


@pytest.fixture
def for_task(tints: Splits) -> Callable[[Task], Splits]:
    """Pictures that a task can be asked about."""

    def make(task: Task) -> Splits:
        if task.name == "shape_bias":
            return Splits("cues", DemoCues(60, conflict=False), DemoCues(30, conflict=True))
        if task.name not in ("segmentation", "depth"):
            return tints
        names = ("dark", "light") if task.name == "segmentation" else ()
        return Splits("valued", *(Valued(each, names, 0.1) for each in (tints.train, tints.test)))

    return make


@pytest.fixture
def ask() -> Callable[..., Subject]:
    """Make a subject of two backbones and the pictures."""

    def ask(
        backbone: nn.Module,
        splits: Splits,
        untrained: nn.Module | None = None,
        *,
        side: int = 48,
        crop: int = 24,
        seed: int = 0,
    ) -> Subject:
        frozen = [
            FrozenBackbone(each, side=side, crop=crop) for each in (backbone, untrained or backbone)
        ]
        return Subject(*frozen, splits, seed)

    return ask


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout()
        )
