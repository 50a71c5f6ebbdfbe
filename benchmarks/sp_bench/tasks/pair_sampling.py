"""Crops of the tasks `pair`, `pair_interaction` and `position`, the same for every backbone."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from sp_bench.data.channel_stats import to_unit
from sp_bench.data.dataset import ImageDataset, Splits
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks.task import EVALUATION_SEED, require_two_images
from sp_plugin import SPConfig, crop_resize
from sp_plugin.crops.resize import matched_resolution
from sp_plugin.crops.sampler import rand_cpu
from sp_plugin.isolation import make_generator
from sp_plugin.objective.pairs import sample_pairs
from sp_plugin.objective.targets import unnormalized_targets

_PER_IMAGE = 2


@dataclass(frozen=True)
class SampledCrops:
    """n groups of k crops, each group from one image; a pair is a group of two.

    Attributes:
        image: (n,) int64, index of the image of each group; no image has more than two groups.
        boxes: (k, n, 4), (cx, cy, w, h) as fractions of the image.
        resolution: (n, 2), pixels to which all crops of a group are low-passed when their
            sharpness is equalised.
    """

    image: Tensor
    boxes: Tensor
    resolution: Tensor

    @property
    def targets(self) -> Tensor:
        """Targets of all P pairs of a group's crops, (Pn, 3), the n of the first pair first.

        dx and dy in fractions of the image, and the scale 1/2 ln(area b / area a).
        """
        a, b = self.boxes[sample_pairs(len(self.boxes))].flatten(1, 2)
        return unnormalized_targets(a, b, "image")


@dataclass(frozen=True)
class CropFeatures:
    """Features of sampled crops.

    Attributes:
        features: (k, n, D), float32.
        crops: the n groups of k crops.
    """

    features: Tensor
    crops: SampledCrops

    @property
    def targets(self) -> Tensor:
        """(Pn, 3), as for `SampledCrops`."""
        return self.crops.targets


def crop_features(
    backbone: FrozenBackbone,
    splits: Splits,
    max_groups: tuple[int, int],
    num_crops: int = 2,
    *,
    equal_sharpness: bool = False,
) -> tuple[CropFeatures, CropFeatures]:
    """Features of crops of the training images, to fit on, and of the test images, to score on.

    Args:
        backbone: backbone; its features are cached for the next task with the same crops.
        splits: images.
        max_groups: largest numbers of groups to fit on and to score on.
        num_crops: crops per group.
        equal_sharpness: whether all crops of a group have the same sharpness.

    Raises:
        UnmeasurableError: a split has fewer than two images, or a feature is not finite.
    """
    require_two_images(splits)

    def of(images: ImageDataset, part: int) -> CropFeatures:
        sizes = backbone.side, backbone.crop_size
        crops = sample_crop_groups(len(images), max_groups[part], *sizes, part, num_crops)
        resolution = crops.resolution if equal_sharpness else None
        shown = backbone.images(images)
        return CropFeatures(extract_crop_features(backbone, shown, crops, resolution), crops)

    fit, score = (
        backbone.cached(
            images,
            f"crops {part} {max_groups} {num_crops} {equal_sharpness}",
            functools.partial(of, images, part),
        )
        for part, images in enumerate((splits.train, splits.test))
    )
    return fit, score


def sample_crop_groups(
    num_images: int, max_groups: int, side: int, crop_size: int, part: int, num_crops: int = 2
) -> SampledCrops:
    """Sample two groups of crops per image, or ``max_groups`` from random images.

    The result depends only on the arguments.

    Args:
        num_images: number of images.
        max_groups: largest number of groups.
        side: side of the images in pixels.
        crop_size: side of the resized crops in pixels.
        part: 0 for the images to fit on, 1 for those to score on; seeds the draw.
        num_crops: crops per group.

    >>> pairs = sample_crop_groups(10, max_groups=15, side=64, crop_size=32, part=0)
    >>> pairs.boxes.shape, int(pairs.image.bincount().max())
    (torch.Size([2, 15, 4]), 2)
    """
    generator = make_generator(EVALUATION_SEED, part)
    rounds = [torch.randperm(num_images, generator=generator) for _ in range(_PER_IMAGE)]
    image = torch.cat(rounds)[:max_groups]
    # Crops with little overlap, whatever the settings of the SP arm.
    config = SPConfig(source="image", num_crops=num_crops, max_iou=0.1).resolve(side)
    boxes = config.build_sampler()(len(image), generator)
    draws = rand_cpu(len(image), 1, generator=generator)
    resolution = matched_resolution(boxes[..., 2:] * side, crop_size, draws)
    return SampledCrops(image, boxes, resolution)


def extract_crop_features(
    backbone: FrozenBackbone, images: Tensor, crops: SampledCrops, resolution: Tensor | None = None
) -> Tensor:
    """Features of all crops.

    Args:
        backbone: backbone; crops are resized to its ``crop_size``.
        images: (N, C, S, S), as from ``backbone.images``.
        crops: n groups of k crops.
        resolution: (n, 2) pixels to which crops are low-passed; None: unchanged sharpness.

    Returns:
        (k, n, D), float32, on the CPU.
    """
    features = []
    # In batches: all crops in floating point would not fit in memory.
    for rows in torch.split(torch.arange(len(crops.image)), backbone.batch_size):
        batch = to_unit(images[crops.image[rows]].to(backbone.device))
        low_pass = None if resolution is None else resolution[rows].to(backbone.device)
        boxes = crops.boxes[:, rows]
        pixels = crop_resize(batch, boxes, backbone.crop_size, low_pass)
        features.append(backbone.extract(pixels).unflatten(0, (len(boxes), -1)))
    return torch.cat(features, dim=1)
