"""FrozenBackbone: features of a backbone that no task can change, with caches shared by tasks."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.channel_stats import IMAGENET, ChannelStats, to_tensor
from sp_bench.data.dataset import ImageDataset
from sp_bench.data.image_files import resize_and_center_crop
from sp_bench.data.image_kind import convert_channels
from sp_plugin.features.extraction import extract_feature_map, extract_features
from sp_plugin.features.input_size import find_input_size
from sp_plugin.isolation import eval_mode, frozen_running_stats, make_generator, private_rng
from sp_plugin.sizes import Size, size_text

# By data set, side and channels, shared by all backbones of a comparison; freed with the data set.
_Decoded = dict[tuple[int, int], Tensor]
_decoded_images: WeakKeyDictionary[ImageDataset, _Decoded] = WeakKeyDictionary()


class UnmeasurableError(ValueError):
    """A metric that cannot be measured; the message is one line with the reason."""


class FrozenBackbone:
    """A backbone in evaluation mode and without gradients, with cached features of data sets.

    Construct a new one when the weights have changed. Images are decoded once for all backbones
    and stay in memory, with 3 side^2 bytes each: 83 MB for 3,000 of 96 px, 7.5 GB for 50,000 of
    224 px. Images of uint16 and floats take 4 bytes for each channel and pixel.

    Args:
        backbone: module that takes (B, C, S, S), on any device; copied if ``device`` is another.
        side: side of the whole images in pixels, or the size that the backbone takes.
        crop_size: side of the crops in pixels, or the size that the backbone takes.
        pool: pooling of token outputs, ``mean`` or ``cls``.
        layer: dotted name of the submodule whose output is taken; None: the last.
        device: device of the forward passes.
        batch_size: images per forward pass.
        workers: processes that decode images; 0: this process.
        stats: mean and standard deviation of each of the C channels, by which images are
            normalised; default ImageNet's.
        bf16: whether forward passes are in bfloat16, under autocast; features are float32 again.

    Attributes:
        feature_dim: width D of the features.
        on_encoded: function that gets the number of images of each forward pass when it is done.

    Raises:
        ConfigError: the backbone takes none of the sizes that were tried.

    >>> frozen = FrozenBackbone(nn.Conv2d(3, 8, 3), side=64, crop_size=32)
    >>> frozen.extract(torch.zeros(5, 3, 64, 64, dtype=torch.uint8)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        side: int,
        crop_size: int,
        pool: str = "mean",
        layer: str | None = None,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        workers: int = 0,
        stats: ChannelStats = IMAGENET,
        bf16: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.backbone = _to_device(self.device, backbone)
        spec, crop_spec = (
            find_input_size(
                self.backbone, size, pool, layer, in_training=False, channels=stats.channels
            )
            for size in (side, crop_size)
        )
        self.side, self.feature_dim = square_side(spec.input_size), spec.feature_dim
        self.crop_size, self._layout = square_side(crop_spec.input_size), spec.layout
        self.pool, self.layer = pool, layer
        self.batch_size, self.workers, self.stats, self.bf16 = batch_size, workers, stats, bf16
        self.on_encoded: Callable[[int], None] = lambda _: None
        self._cache: WeakKeyDictionary[ImageDataset, dict[str, Any]] = WeakKeyDictionary()

    def images(self, images: ImageDataset) -> Tensor:
        """Center squares of all images on the CPU, which are not to be changed.

        Returns:
            (N, C, side, side), uint8; images of uint16 and floats as float32.
        """
        decoded = _decoded_images.setdefault(images, {})
        key = self.side, self.stats.channels
        if key not in decoded:
            decoded[key] = _decode_images(images, *key, self.workers)
        return decoded[key]

    def features(self, images: ImageDataset) -> Tensor:
        """Features of a data set, (N, D), float32, on the CPU; cached, read-only.

        Raises:
            UnmeasurableError: a feature is not finite.
        """
        return self.cached(images, "features", lambda: self.extract(self.images(images)))

    def cached(self, images: ImageDataset, name: str, compute: Callable[[], Any]) -> Any:
        """Result of ``compute`` for a data set, computed once for all tasks.

        Args:
            images: data set that the result depends on; the result is freed with it.
            name: name of the result.
            compute: function that is called at the first access.
        """
        results = self._cache.setdefault(images, {})
        if name not in results:
            results[name] = compute()
        return results[name]

    def extract(self, images: Tensor) -> Tensor:
        """Pooled features of images.

        Args:
            images: (N, C, S, S), uint8 or floating point, on any device.

        Returns:
            (N, D), float32, on the CPU.

        Raises:
            UnmeasurableError: a feature is not finite.
        """
        return self._run(
            images,
            lambda batch: extract_features(
                self.backbone, batch, self.pool, self.layer, layout=self._layout
            ),
        )

    def extract_maps(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Feature maps of images.

        Args:
            images: as for `extract`.
            layer: dotted name of a submodule; None: the ``layer`` of this backbone.

        Returns:
            (N, D, h, w), float32, on the CPU.

        Raises:
            UnmeasurableError: a feature is not finite, or the patches have no order.
            ConfigError: the backbone pools its features, and no layer was given.
        """
        if self._layout.is_masked:
            raise UnmeasurableError("backbone: it shuffles its patches to mask them; gives no map")
        layer = layer or self.layer
        return self._run(images, lambda batch: extract_feature_map(self.backbone, batch, layer))

    def _run(self, images: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        made = []
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
        with unchanged(self.backbone, self.device), autocast:
            for batch in torch.split(images, self.batch_size):
                made.append(forward(self._normalize(batch)).float().cpu())
                self.on_encoded(len(batch))
        features = torch.cat(made)
        if features.isfinite().all():
            return features
        raise UnmeasurableError(
            "backbone: some of its features are not finite; did its training diverge?"
        )

    def _normalize(self, images: Tensor) -> Tensor:
        images = image_ops.to_dtype(images.to(self.device), torch.float32, scale=True)
        images = self.stats.normalize(images)
        images = images.to(float_parameter(self.backbone, images).dtype)
        if self.device.type == "cpu":  # convolutions are faster in this format
            images = images.contiguous(memory_format=torch.channels_last)
        return images


@contextlib.contextmanager
def unchanged(backbone: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode for a block that leaves the backbone and the global generators unchanged.

    Masked models draw a mask in evaluation mode too, and a module may count its calls.
    """
    guard = frozen_running_stats(backbone)
    with eval_mode(backbone), guard, private_rng(0, device):
        yield


def float_parameter(module: nn.Module, default: Tensor) -> Tensor:
    """First parameter in floating point, for its dtype and device, or ``default``."""
    return next((p for p in module.parameters() if p.is_floating_point()), default)


def square_side(size: Size) -> int:
    """Side of the images that a backbone takes.

    Raises:
        UnmeasurableError: they are no squares.
    """
    if isinstance(size, tuple):
        raise UnmeasurableError(f"the backbone takes images of {size_text(size)} px, no squares")
    return size


def _to_device(device: torch.device, backbone: nn.Module) -> nn.Module:
    """The backbone itself, or a copy if it is on another device, which its owner still uses."""
    homes = {tensor.device for tensor in (*backbone.parameters(), *backbone.buffers())}
    if all(home.type == device.type and device.index in (None, home.index) for home in homes):
        return backbone
    return copy.deepcopy(backbone).to(device)


def _decode_images(images: ImageDataset, side: int, channels: int, workers: int) -> Tensor:
    loader = DataLoader(
        images,
        batch_size=256,
        collate_fn=functools.partial(stack_squares, side, channels),
        num_workers=workers,
        generator=make_generator(0),  # of the workers' seeds, else drawn from the global one
    )
    out = torch.empty(0, channels, side, side, dtype=torch.uint8)
    start = 0
    for batch in loader:
        if not start:
            out = batch.new_empty(len(images), *batch.shape[1:])
        out[start : start + len(batch)] = batch
        start += len(batch)
    return out


def stack_squares(side: int, channels: int, items: list[tuple[Any, int]]) -> Tensor:
    """Center squares of the images of a data set's items, (N, channels, side, side)."""
    images = (convert_channels(image, channels) for image, _ in items)
    return torch.stack([to_tensor(resize_and_center_crop(image, side)) for image in images])
