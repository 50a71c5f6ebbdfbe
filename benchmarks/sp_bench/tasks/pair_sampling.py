"""Sampled crops of the pair tasks and their features: the same crops for every backbone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sp_bench.data.channel_stats import to_unit
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks.task import EVALUATION_SEED
from sp_plugin import SPConfig, crop_resize
from sp_plugin.crops.resize import matched_resolution
from sp_plugin.crops.sampler import rand_cpu
from sp_plugin.isolation import make_generator
from sp_plugin.objective.targets import unnormalized_targets

_PER_IMAGE = 2


@dataclass(frozen=True)
class SampledCrops:
    """n groups of k crops, each group from one image; a pair is a group of two.

    Attributes:
        image: (n,) int64, index of the image of each group; no image has more than two groups.
        boxes: (k, n, 4), (cx, cy, w, h) as fractions of the image; crops a and b come first.
        resolution: (n, 2), pixels to which all crops of a group are low-passed when their
            sharpness is equalised.
    """

    image: Tensor
    boxes: Tensor
    resolution: Tensor

    @property
    def targets(self) -> Tensor:
        """(n, 3): dx and dy in fractions of the image, and the scale 1/2 ln(area b / area a)."""
        return self.targets_of(torch.tensor([[0], [1]]))

    def targets_of(self, pairs: Tensor) -> Tensor:
        """Targets (Pn, 3) of ``pairs`` (2, P) of a group's crops, the n of the first pair first."""
        a, b = self.boxes[pairs].flatten(1, 2)
        return unnormalized_targets(a, b, "image")


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
        pixels = torch.cat([crop_resize(batch, b, backbone.crop_size, low_pass) for b in boxes])
        features.append(backbone.extract(pixels).unflatten(0, (len(boxes), -1)))
    return torch.cat(features, dim=1)
