"""Crops: the local crops of each image of a batch, and where they were cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sp_plugin.crops.resize import crop_resize
from sp_plugin.crops.sampler import CropSampler, rand_cpu
from sp_plugin.crops.sharpness import matched_resolution


class Crops(NamedTuple):
    """What SP is to encode: k crops of each image.

    Attributes:
        boxes: (k, B, 4), each crop's (cx, cy, w, h), fractions of the frame that they share.
        pixels: (kB, C, S, S), first all first crops, then all second ones ...; normalised as the
            backbone takes them.
    """

    boxes: Tensor
    pixels: Tensor

    @classmethod
    def from_batch(cls, sample: Mapping[str, Any]) -> Crops:
        """From what a data loader makes of the samples of `sp_plugin.crops.transform.ImageCrops`.

        Args:
            sample: ``crops`` (B, k, C, S, S) and ``boxes`` (B, k, 4).

        >>> sample = {"crops": torch.zeros(5, 2, 3, 8, 8), "boxes": torch.zeros(5, 2, 4)}
        >>> crops = Crops.from_batch(sample)
        >>> crops.boxes.shape, crops.pixels.shape
        (torch.Size([2, 5, 4]), torch.Size([10, 3, 8, 8]))
        """
        boxes, crops = sample["boxes"], sample["crops"]
        return cls(boxes.transpose(0, 1), torch.cat(crops.unbind(1)))

    @classmethod
    def sample(
        cls,
        images: Tensor,
        sampler: CropSampler,
        size: int,
        generator: torch.Generator,
        progress: float = 1.0,
        equal_sharpness: bool = False,
    ) -> Crops:
        """Draw boxes for each image, and cut them out on the images' device.

        Args:
            images: (B, C, H, W).
            sampler: of the boxes.
            size: side that the crops are resized to, in pixels.
            generator: on the CPU.
            progress: how far training has come, in [0, 1].
            equal_sharpness: bring all crops of an image to one resolution first.
        """
        count, (height, width) = len(images), images.shape[-2:]
        # All that is random first: the rest compiles without a graph break.
        numbers = sampler.draw_uniform(count, generator)
        part = rand_cpu(count, 1, generator=generator) if equal_sharpness else None
        boxes = sampler.to_boxes(numbers, progress)
        resolution = None
        if part is not None:
            sides = boxes[..., 2:] * boxes.new_tensor([width, height])
            resolution = matched_resolution(sides, size, part)
            resolution = resolution.to(images.device, non_blocking=True)
        boxes = boxes.to(images.device, non_blocking=True)
        crops = [crop_resize(images.detach(), box, size, resolution) for box in boxes]
        return cls(boxes, torch.cat(crops))
