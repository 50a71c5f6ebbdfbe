"""Images from arrays and small networks that the tests of all tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from sp_bench.data.dataset import ImageDataset, Splits
from sp_bench.data.demo import DemoCues
from sp_bench.data.dense_dataset import DenseDataset
from sp_bench.data.depth import load_depths
from sp_bench.data.segmentation_masks import load_masks
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks import Task, TaskContext, dense_probe, in_context, pair_interaction
from sp_bench.tasks.imagenet_variants import SplitsWithVariant
from sp_bench.tasks.robustness import SplitsWithCorruptions
from threadpoolctl import threadpool_limits
from torch import Tensor, nn


class ArrayImages(ImageDataset):
    """Images from an array.

    Args:
        pixels: (N, H, W, 3), uint8.
        labels: (N,).
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels = pixels
        self.labels = torch.as_tensor(labels, dtype=torch.int64)
        self.classes = tuple(f"class {index}" for index in range(int(self.labels.max()) + 1))

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Such small work is faster on one core, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes that are trained step by step take few steps, and a memory has few entries."""
    monkeypatch.setattr(dense_probe, "_EPOCHS", 2)
    monkeypatch.setattr(dense_probe, "_STEPS", 2)
    monkeypatch.setattr(pair_interaction, "_BATCHES", 1)
    monkeypatch.setattr(in_context, "_MEMORY_SIZE", 300)


@pytest.fixture
def arrays() -> type[ArrayImages]:
    return ArrayImages


@pytest.fixture
def tints() -> Splits:
    """Four classes of noise, each with its own tint of random strength, 48 px."""
    rng = np.random.default_rng(0)

    def part(count: int) -> ArrayImages:
        labels = np.arange(count) % 4
        tint = np.array([[90, 0, 0], [0, 90, 0], [0, 0, 90], [60, 60, 0]])[labels]
        strength = rng.uniform(0, 1, (count, 1))
        noise = rng.integers(0, 160, (count, 48, 48, 3))
        return ArrayImages((noise + (tint * strength)[:, None, None]).astype(np.uint8), labels)

    return Splits("tints", part(60), part(40))


class RedValues(DenseDataset):
    """Images with a value for each pixel, which follows from its red."""

    def __init__(self, source: ArrayImages, names: tuple[str, ...], scale: float) -> None:
        self.source, self.names, self._scale = source, names, scale
        self.labels, self.classes = source.labels, source.classes

    def image(self, index: int) -> Image.Image:
        return self.source.image(index)

    def values(self, index: int) -> np.ndarray:
        red = self.source.pixels[index, ..., 0]
        if self.names:
            return (red > 128).astype(np.uint8)
        return (1 + red * self._scale).astype(np.float32)


class BlackFiles:
    """Files of a corruption that leaves nothing of the images."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def images(self, name: str, severity: int, indices: Tensor, side: int) -> Tensor:
        return torch.zeros(len(indices), 3, side, side, dtype=torch.uint8)


@pytest.fixture
def splits_for_task(tints: Splits) -> Callable[[Task], Splits]:
    """Images of the kind that a task takes."""

    def make(task: Task) -> Splits:
        if task.name == "shape_bias":
            return Splits("cues", DemoCues(60, conflict=False), DemoCues(30, conflict=True))
        if task.name == "imagenet_c":
            test = tints.test
            return SplitsWithCorruptions("c", tints.train, test, (), BlackFiles(test.labels))
        if task.name.startswith("imagenet"):
            return SplitsWithVariant("variant", tints.train, tints.test, (), tints.test)
        if task.load not in (load_masks, load_depths):
            return tints
        names = ("dark", "light") if task.load is load_masks else ()
        return Splits(
            "valued", *(RedValues(each, names, 0.1) for each in (tints.train, tints.test))
        )

    return make


@pytest.fixture
def make_context() -> Callable[..., TaskContext]:
    """Make a context of two backbones and the images."""

    def make_context(
        backbone: nn.Module,
        splits: Splits,
        untrained: nn.Module | None = None,
        *,
        side: int = 48,
        crop_size: int = 24,
        seed: int = 0,
    ) -> TaskContext:
        frozen = [
            FrozenBackbone(each, side=side, crop_size=crop_size)
            for each in (backbone, untrained or backbone)
        ]
        return TaskContext(*frozen, splits, seed)

    return make_context


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout()
        )


@pytest.fixture
def ramps(arrays: type[ArrayImages]) -> Splits:
    """Red rises to the right and green downwards: the colour of a pixel gives its position."""
    rise = np.round((np.arange(64) + 0.5) / 64 * 255).astype(np.uint8)
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0], image[..., 1] = rise, rise[:, None]
    parts = [arrays(np.stack([image] * n), np.arange(n) % 2) for n in (300, 300)]
    return Splits("ramps", *parts)


@pytest.fixture
def fractals(arrays: type[ArrayImages]) -> Splits:
    """1/f noise: it looks the same at every scale, so that only blur depends on the crop size."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96)) + 1e-9
    frequency[0, 0] = np.inf

    def part(count: int):
        spectrum = np.fft.fft2(rng.normal(size=(count, 3, 96, 96))) / frequency
        waves = np.fft.ifft2(spectrum).real
        waves = 128 + 45 * waves / waves.std(axis=(2, 3), keepdims=True)
        pixels = waves.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return arrays(np.ascontiguousarray(pixels), np.arange(count) % 2)

    return Splits("fractals", part(250), part(250))


class PositionEncoder(nn.Module):
    """On `ramps`: position of a crop by its mean, and size by its spread."""

    def forward(self, images: Tensor) -> Tensor:
        ramp = images[:, :2].flatten(2)
        return torch.cat([ramp.mean(dim=2), ramp.std(dim=2).clamp_min(1e-6).log()], dim=1)


class SharpnessEncoder(nn.Module):
    """Curvature of a crop relative to its slope: it depends only on the blur."""

    def forward(self, images: Tensor) -> Tensor:
        bends = []
        for axis in (2, 3):
            slope = images.diff(dim=axis)
            bend = slope.diff(dim=axis).square().mean(dim=(1, 2, 3))
            bends.append(bend / slope.square().mean(dim=(1, 2, 3)).clamp_min(1e-9))
        return torch.stack(bends, dim=1).clamp_min(1e-9).log()


class NoiseEncoder(nn.Module):
    """Numbers that depend on the crop but have no information about it."""

    def forward(self, images: Tensor) -> Tensor:
        return (images.mean(dim=(1, 2, 3))[:, None] * torch.tensor([1e4, 3e4])).sin()


@pytest.fixture
def position_encoder() -> nn.Module:
    return PositionEncoder()


@pytest.fixture
def sharpness_encoder() -> nn.Module:
    return SharpnessEncoder()


@pytest.fixture
def noise_encoder() -> nn.Module:
    return NoiseEncoder()
