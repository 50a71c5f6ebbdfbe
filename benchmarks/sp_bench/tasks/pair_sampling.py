"""Which crops the pair and relation tasks ask about, and their features: the same for every arm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks import EVALUATION_SEED
from sp_plugin import SPConfig, crop_resize
from sp_plugin.crops.sampler import rand_cpu
from sp_plugin.crops.sharpness import matched_resolution
from sp_plugin.isolation import make_generator
from sp_plugin.objective.targets import unnormalized_targets

_PER_PICTURE = 2


@dataclass(frozen=True)
class Draws:
    """n pairs of crops, or n times k crops.

    Attributes:
        image: (n,) int64, which image each pair is cut from; none more than twice.
        boxes: (k, n, 4), crops a and b in the image, and further ones.
        resolution: (n, 2), what all crops of a pair are low-passed to when equalised, in pixels.
    """

    image: Tensor
    boxes: Tensor
    resolution: Tensor

    @property
    def targets(self) -> Tensor:
        """(n, 3): dx and dy in fractions of the image, and sigma = 1/2 ln(A_b / A_a)."""
        return self.targets_of(torch.tensor([[0], [1]]))

    def targets_of(self, pairs: Tensor) -> Tensor:
        """The same for pairs (2, P) of the crops: (Pn, 3), the first n of the first pair."""
        a, b = self.boxes[pairs].flatten(1, 2)
        return unnormalized_targets(a, b, "image")


def draw_pairs(images: int, most: int, frame: int, crop: int, part: int, crops: int = 2) -> Draws:
    """Draw two pairs an image, or fewer from images taken at random, from nothing but this.

    Args:
        images: how many there are.
        most: pairs at most.
        frame: side of the images in pixels.
        crop: side of the crops as the backbone is shown them, in pixels.
        part: 0 to fit on, 1 to score on.
        crops: how many belong together; more than two are in no order.

    >>> draws = draw_pairs(images=10, most=15, frame=64, crop=32, part=0)
    >>> draws.boxes.shape, int(draws.image.bincount().max())
    (torch.Size([2, 15, 4]), 2)
    """
    generator = make_generator(EVALUATION_SEED, part)
    rounds = [torch.randperm(images, generator=generator) for _ in range(_PER_PICTURE)]
    image = torch.cat(rounds)[:most]
    # Crops that hardly overlap, whatever SP itself is told to draw.
    config = SPConfig(source="image", num_crops=crops, max_iou=0.1).resolve(frame)
    boxes = config.build_sampler()(len(image), generator)
    numbers = rand_cpu(len(image), 1, generator=generator)
    return Draws(image, boxes, matched_resolution(boxes[..., 2:] * frame, crop, numbers))


def encode_pairs(
    backbone: FrozenBackbone, images: Tensor, draws: Draws, resolution: Tensor | None = None
) -> Tensor:
    """Features of all crops of each pair.

    Args:
        backbone: to ask.
        images: (N, 3, frame, frame), uint8.
        draws: n pairs.
        resolution: (n, 2) to low-pass them to; None leaves them as they are.

    Returns:
        (k, n, D), float32, on the CPU.
    """
    features = []
    # In parts: the crops of all pairs in floating point would not fit where images are large.
    for rows in torch.split(torch.arange(len(draws.image)), backbone.batch_size):
        frames = images[draws.image[rows]].to(backbone.device).float() / 255
        to = None if resolution is None else resolution[rows].to(backbone.device)
        crops = [crop_resize(frames, box, backbone.crop, to) for box in draws.boxes[:, rows]]
        features.append(backbone.encode(torch.cat(crops)).unflatten(0, (len(crops), -1)))
    return torch.cat(features, dim=1)
