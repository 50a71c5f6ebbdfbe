"""Sampler: draws the boxes of an image's crops, and cuts the crops out.

Window first, then crops inside it, then a limit on their overlap. Why a window: a crop must fit
its frame, so the location of one crop already predicts part of the offset to another. Over the
whole frame one crop alone can reach R2 0.49 on dx; inside a window of side U[0.5, 1] at an unknown
location, 0.37. The ranges are our choice; the paper's could not be read.

`CropSampler.to_boxes`, from uniform draws to boxes, compiles (`torch.compile`). The draws
themselves stay eager, as a private generator cannot be part of a graph.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sp_plugin.crops.boxes import paired_iou, to_parent_frame
from sp_plugin.crops.resize import crop_resize, matched_resolution
from sp_plugin.sizes import Size, box_ratio
from sp_plugin.structures import Crops

__all__ = ["CropSampler", "Range", "UniformDraws", "lerp", "rand_cpu", "sample_crops"]

Range = tuple[float, float]

# The generator lives on the CPU, whatever torch.set_default_device says.
_CPU = torch.device("cpu")


def lerp(first: Any, last: Any, progress: float | Tensor) -> Any:
    """Linear interpolation from ``first`` at progress 0 to ``last`` at progress 1.

    >>> lerp(1.0, 0.5, 0.5)
    0.75
    """
    return first + (last - first) * progress


def rand_cpu(*shape: int, generator: torch.Generator) -> Tensor:
    """Uniform draws in [0, 1), float32 on the CPU whatever torch's default device and dtype."""
    return torch.rand(shape, generator=generator, device=_CPU, dtype=torch.float32)


class UniformDraws(NamedTuple):
    """All uniform draws for the crops of n images, in the order in which they are drawn.

    Attributes:
        window_side: (n, 1).
        window_centre: (n, 2).
        first_two: (4, 2, tries, n), area, aspect, x and y of the first two crops.
        extra_crops: (4, num_crops - 2, tries, n), the same for each further crop.
        order: (num_crops, n, 1), sort keys that shuffle the crops; (0, n, 1) for two crops, which
            are not shuffled.
    """

    window_side: Tensor
    window_centre: Tensor
    first_two: Tensor
    extra_crops: Tensor
    order: Tensor


class CropSampler:
    """Draws the boxes of an image's crops from a private generator.

    1. A window of side U[window] of the frame, at a random location.
    2. Two crops inside it: area log-uniform in ``crop_scale`` of the window, aspect log-uniform in
       ``crop_ratio``, centre uniform where the crop fits. Where frame and crops are of different
       shapes, area and aspect are those in the largest box of the crops' shape that fits the
       window: crops of a long frame are as large as in the square of its shorter side, and lie
       anywhere along it.
    3. Pairs with an IoU above ``max_iou`` are drawn again, at most ``tries`` times in all, for the
       whole batch at once. Where no try is within the limit, the one with the least overlap is
       used. So it never fails and never loops for ever.
    4. Each further crop: the first of ``tries`` whose IoU with every earlier crop is within
       ``max_iou``, or the one whose largest IoU is the least. Later crops lie where earlier ones
       left room, so the order is shuffled at the end, image by image: every pair of crops then has
       the same distribution.

    Args:
        crop_scale: least and largest area, fractions of the window; or two such ranges, at the
            start and at the end of training.
        crop_ratio: least and largest aspect ratio (width / height).
        window: least and largest side of the window, fractions of the frame; (1, 1) for none.
        max_iou: largest overlap of a pair in [0, 1]; or two, at the start and at the end.
        tries: number of draws of each crop, at most.
        num_crops: number of crops of each image, 2 or more.
        box_ratio: width / height in fractions of the frame of the box with the crops' shape, see
            `sp_plugin.sizes.box_ratio`.

    >>> sampler = CropSampler()
    >>> a, b = sampler(8, torch.Generator().manual_seed(0))
    >>> a.shape, bool((paired_iou(a, b) <= 0.1 + 1e-6).all())
    (torch.Size([8, 4]), True)
    """

    def __init__(
        self,
        crop_scale: Range | tuple[Range, Range] = (0.05, 0.32),
        crop_ratio: Range = (3 / 4, 4 / 3),
        window: Range = (0.5, 1.0),
        max_iou: float | Range = 0.1,
        tries: int = 10,
        num_crops: int = 2,
        box_ratio: float = 1.0,
    ) -> None:
        self.crop_scale = crop_scale if isinstance(crop_scale[0], tuple) else (crop_scale,) * 2
        self.crop_ratio = crop_ratio
        self.window = window
        self.max_iou = max_iou if isinstance(max_iou, tuple) else (max_iou, max_iou)
        self.tries = tries
        self.num_crops = num_crops
        self.box_ratio = box_ratio

    def __call__(
        self, n: int, generator: torch.Generator, progress: float | Tensor = 1.0
    ) -> Tensor:
        """Draw the boxes of the crops of ``n`` images.

        Args:
            n: number of images.
            generator: private CPU generator; nothing else is drawn from.
            progress: progress of training in [0, 1]; a tensor (n,) gives each image its own.

        Returns:
            Boxes in the frame, (num_crops, n, 4), float32, on the CPU.
        """
        return self.to_boxes(self.draw_uniform(n, generator), progress)

    def draw_uniform(self, n: int, generator: torch.Generator) -> UniformDraws:
        """All uniform draws for the crops of ``n`` images."""
        extra = self.num_crops - 2
        return UniformDraws(
            window_side=rand_cpu(n, 1, generator=generator),
            window_centre=rand_cpu(n, 2, generator=generator),
            first_two=rand_cpu(4, 2, self.tries, n, generator=generator),
            extra_crops=rand_cpu(4, extra, self.tries, n, generator=generator),
            order=rand_cpu(self.num_crops if extra else 0, n, 1, generator=generator),
        )

    def to_boxes(
        self,
        draws: UniformDraws,
        progress: float | Tensor = 1.0,
        box_ratio: float | None = None,
    ) -> Tensor:
        """Boxes in the frame, as the draws determine them.

        Args:
            draws: from `draw_uniform`.
            progress: as for calling it.
            box_ratio: of this frame; None: the sampler's own.

        Returns:
            (num_crops, n, 4).
        """
        ratio = self.box_ratio if box_ratio is None else box_ratio
        scale = [lerp(*ends, progress) for ends in zip(*self.crop_scale, strict=True)]
        limit = lerp(*self.max_iou, progress)
        # Overlap is the same inside the window as outside.
        first_tries = self._boxes_in_window(draws.first_two, scale, ratio)  # (2, tries, n, 4)
        overlap = paired_iou(first_tries[0], first_tries[1])  # (tries, n)
        boxes = _first_valid(first_tries, overlap, limit)  # (2, n, 4)
        if self.num_crops > 2:
            for crop_tries in self._boxes_in_window(draws.extra_crops, scale, ratio).unbind():
                # (crops so far, tries, n): each try against each earlier crop; the worst counts.
                overlap = paired_iou(crop_tries, boxes.unsqueeze(1)).amax(dim=0)
                chosen = _first_valid(crop_tries.unsqueeze(0), overlap, limit)
                boxes = torch.cat([boxes, chosen])
            order = draws.order.argsort(dim=0)
            boxes = boxes.gather(0, order.expand(-1, -1, 4))
        return to_parent_frame(boxes, self._window(draws.window_side, draws.window_centre))

    def windows(self, n: int, generator: torch.Generator) -> Tensor:
        """Windows (n, 4) in the frame that a call with this generator would use."""
        draws = self.draw_uniform(n, generator)
        return self._window(draws.window_side, draws.window_centre)

    def _window(self, u_side: Tensor, u_centre: Tensor) -> Tensor:
        low, high = self.window
        side = low + (high - low) * u_side
        return torch.cat([side / 2 + (1 - side) * u_centre, side, side], dim=1)

    def _boxes_in_window(self, draws: Tensor, scale: list[Any], box_ratio: float) -> Tensor:
        """Boxes (..., 4) in the window from draws (4, ...) and the least and largest area."""
        u_area, u_ratio, u_x, u_y = draws.unbind()
        # Products, as a graph would be made anew for each number that becomes a tensor.
        one = torch.ones((), device=_CPU, dtype=torch.float32)
        smallest, largest = ((one * end).float().log() for end in scale)
        log_area = lerp(smallest, largest, u_area)
        # A side is at most the window's: sqrt(area * ratio) <= 1 in both directions.
        narrow, wide = (math.log(end) for end in self.crop_ratio)
        log_ratio = lerp(narrow, wide, u_ratio).clamp(log_area, -log_area)
        w, h = ((log_area + log_ratio) / 2).exp(), ((log_area - log_ratio) / 2).exp()
        if box_ratio != 1:
            w, h = w * min(1.0, box_ratio), h * min(1.0, 1 / box_ratio)
        return torch.stack([w / 2 + (1 - w) * u_x, h / 2 + (1 - h) * u_y, w, h], dim=-1)


def _first_valid(tries: Tensor, overlap: Tensor, limit: float | Tensor) -> Tensor:
    """For each image the first try whose overlap is within the limit, else the least overlap.

    Args:
        tries: (m, tries, n, 4), m crops drawn together.
        overlap: (tries, n).
        limit: largest overlap, one number or (n,).

    Returns:
        (m, n, 4).
    """
    valid = overlap <= limit
    first_valid = valid.to(torch.uint8).argmax(dim=0)
    index = torch.where(valid.any(dim=0), first_valid, overlap.argmin(dim=0))
    return tries[:, index, torch.arange(len(index), device=_CPU)]


def sample_crops(
    images: Tensor,
    sampler: CropSampler,
    crop_size: Size,
    generator: torch.Generator,
    progress: float = 1.0,
    equal_sharpness: bool = False,
) -> Crops:
    """Draw boxes for each image, and cut the crops out on the images' device.

    Args:
        images: (B, C, H, W).
        sampler: of the boxes.
        crop_size: that the crops are resized to, in pixels: one side, or height and width.
        generator: private CPU generator.
        progress: progress of training in [0, 1].
        equal_sharpness: resize all crops of an image to one resolution first.

    Returns:
        k crops of each image.
    """
    count, (height, width) = len(images), images.shape[-2:]
    # All random draws first: the rest compiles without a graph break.
    draws = sampler.draw_uniform(count, generator)
    sharpness = rand_cpu(count, 1, generator=generator) if equal_sharpness else None
    ratio = box_ratio((height, width), crop_size)
    boxes = sampler.to_boxes(draws, progress, ratio)
    resolution = None
    if sharpness is not None:
        sides = boxes[..., 2:] * boxes.new_tensor([width, height])
        resolution = matched_resolution(sides, crop_size, sharpness)
        resolution = resolution.to(images.device, non_blocking=True)
    boxes = boxes.to(images.device, non_blocking=True)
    return Crops(boxes, crop_resize(images.detach(), boxes, crop_size, resolution))
