"""Frozen features: what every task asks of a backbone, and no task may change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightly.transforms.utils import IMAGENET_NORMALIZE
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.dataset import ImageDataset
from sp_plugin.features.extraction import extract_feature_map, extract_features
from sp_plugin.features.input_size import find_input_size
from sp_plugin.isolation import eval_mode, frozen_running_stats, make_generator, private_rng

# By the set and the side, for all backbones of a comparison; gone when the set is.
_decoded: WeakKeyDictionary[ImageDataset, dict[int, Tensor]] = WeakKeyDictionary()


class UnmeasurableError(ValueError):
    """There is no number to give, and the message says why in one line."""


class FrozenBackbone:
    """A backbone as the tasks see it: in evaluation mode, without gradients, never changed.

    What it makes of a set of images is kept: make a new one when the weights have moved. The
    images are decoded once for all backbones and stay in memory, 3 side^2 bytes each: 83 MB
    for 3,000 of 96 px, 7.5 GB for 50,000 of 224 px.

    Args:
        backbone: takes (B, 3, S, S), on any device; a copy is used where ``device`` is another.
        side: of the whole images it is shown, in pixels.
        crop: side of the crops it is shown, in pixels. A backbone of fixed size gets the size it
            takes, in either case.
        pool: of token outputs, ``mean`` or ``cls``.
        layer: dotted name of a submodule whose output is taken instead of the last.
        device: where it computes.
        batch_size: images in a batch.
        workers: processes that decode images; 0 for none but this.

    Attributes:
        side, crop: as given, or what the backbone takes.
        width: of its features, D.

    Raises:
        ConfigError: the backbone takes no size that was tried.

    >>> frozen = FrozenBackbone(nn.Conv2d(3, 8, 3), side=64, crop=32)
    >>> frozen.encode(torch.zeros(5, 3, 64, 64, dtype=torch.uint8)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        side: int,
        crop: int,
        pool: str = "mean",
        layer: str | None = None,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        workers: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self.backbone = _on(self.device, backbone)
        self.side, self.width = find_input_size(self.backbone, side, pool, layer)
        self.crop = find_input_size(self.backbone, crop, pool, layer).input_size
        self.pool, self.layer = pool, layer
        self.batch_size, self.workers = batch_size, workers
        self._kept: WeakKeyDictionary[ImageDataset, dict[str, Any]] = WeakKeyDictionary()

    def images(self, images: ImageDataset) -> Tensor:
        """The images as this backbone is shown them, (N, 3, side, side), uint8, on the CPU.

        Shorter side resized, antialiased, and the centre cut out. Not to be written to.
        """
        sides = _decoded.setdefault(images, {})
        if self.side not in sides:
            sides[self.side] = _decode(images, self.side, self.workers)
        return sides[self.side]

    def features(self, images: ImageDataset) -> Tensor:
        """Features of a set of images, (N, D), float32, on the CPU. Not to be written to.

        Raises:
            UnmeasurableError: as `extract_features`.
        """
        return self.cached(images, "features", lambda: self.encode(self.images(images)))

    def cached(self, images: ImageDataset, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives for a set of images, made once and kept for all tasks.

        Args:
            images: what it is made of; it is gone when they are.
            name: of what is made.
            make: called the first time.
        """
        made = self._kept.setdefault(images, {})
        if name not in made:
            made[name] = make()
        return made[name]

    def encode(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: (N, 3, S, S), uint8 or floating point in [0, 1], on any device.

        Returns:
            (N, D), float32, on the CPU.

        Raises:
            UnmeasurableError: a feature is not finite.
        """
        return self._ask(
            images, lambda batch: extract_features(self.backbone, batch, self.pool, self.layer)
        )

    def encode_maps(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Features of square images, place by place.

        Args:
            images: as for `extract_features`.
            layer: whose output is taken; None for the backbone's own ``layer``.

        Returns:
            (N, D, h, w), float32, on the CPU.

        Raises:
            UnmeasurableError: as `extract_features`.
            ConfigError: the backbone pools its features, and no layer was given.
        """
        layer = layer or self.layer
        return self._ask(images, lambda batch: extract_feature_map(self.backbone, batch, layer))

    def _ask(self, images: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
        # A masked model draws its mask even here, and a module may count its calls.
        quiet = frozen_running_stats(self.backbone)
        with eval_mode(self.backbone), quiet, private_rng(0, self.device):
            features = torch.cat(
                [
                    answer(self._prepared(batch)).float().cpu()
                    for batch in torch.split(images, self.batch_size)
                ]
            )
        if features.isfinite().all():
            return features
        raise UnmeasurableError(
            "backbone: some of its features are not finite; did its training diverge?"
        )

    def _prepared(self, images: Tensor) -> Tensor:
        images = image_ops.to_dtype(images.to(self.device), torch.float32, scale=True)
        images = image_ops.normalize(images, IMAGENET_NORMALIZE["mean"], IMAGENET_NORMALIZE["std"])
        weight = next((p for p in self.backbone.parameters() if p.is_floating_point()), images)
        images = images.to(weight.dtype)
        if self.device.type == "cpu":  # convolutions are faster so
            images = images.contiguous(memory_format=torch.channels_last)
        return images


def _on(device: torch.device, backbone: nn.Module) -> nn.Module:
    """The backbone itself, or a copy where moving it would take it from its owner's device."""
    homes = {part.device for part in (*backbone.parameters(), *backbone.buffers())}
    if all(home.type == device.type and device.index in (None, home.index) for home in homes):
        return backbone
    return copy.deepcopy(backbone).to(device)


class _Squares(Dataset[Tensor]):
    """Images as squares of one side, uint8."""

    def __init__(self, images: ImageDataset, side: int) -> None:
        self.source, self.side = images, side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor:
        image, _ = self.source[index]
        image = image_ops.center_crop(image_ops.resize(image, [self.side]), [self.side])
        pixels: Tensor = image_ops.pil_to_tensor(image)
        return pixels


def _decode(images: ImageDataset, side: int, workers: int) -> Tensor:
    out = torch.empty(len(images), 3, side, side, dtype=torch.uint8)
    # A loader draws a seed for its workers: not from the global generator.
    loader = DataLoader(
        _Squares(images, side), 256, num_workers=workers, generator=make_generator(0)
    )
    first = 0
    for batch in loader:
        out[first : first + len(batch)] = batch
        first += len(batch)
    return out
