"""CropSampler: which crops of an image SP encodes.

Window first, then crops inside it, then a limit on their overlap. Why a window: a crop
must fit its frame, so where one crop lies already tells part of the offset to the other. Over
the whole frame one crop alone can reach R2 0.49 on dx; inside a window of side U[0.5, 1] whose
place is not known, 0.37. The ranges are ours; the paper's were not to be had.

Compiles (`torch.compile`): `CropSampler.boxes`, from numbers to boxes. Stays eager: the draw of
the numbers, as a private generator cannot be part of a graph.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sp_plugin.crops.boxes import paired_iou, to_parent_frame

Range = tuple[float, float]

# The generator lives on the CPU, whatever torch.set_default_device and its like say.
_CPU = torch.device("cpu")


def lerp(first: Any, last: Any, progress: float | Tensor) -> Any:
    """From ``first`` at progress 0 to ``last`` at progress 1, linearly.

    >>> blend(1.0, 0.5, 0.5)
    0.75
    """
    return first + (last - first) * progress


def rand_cpu(*shape: int, generator: torch.Generator) -> Tensor:
    """UniformDraws in [0, 1) on the CPU in float32, whatever torch's default device and dtype are."""
    return torch.rand(shape, generator=generator, device=_CPU, dtype=torch.float32)


class UniformDraws(NamedTuple):
    """All that a sampler takes from its generator for n images, in the order of the draw.

    Attributes:
        side: (n, 1), of the windows.
        centre: (n, 2), likewise.
        pair: (4, 2, tries, n), area, aspect, x and y of the first two crops.
        further: (4, crops - 2, tries, n), likewise of each further crop.
        order: (crops, n, 1), how the crops are shuffled; two are not: (0, n, 1).
    """

    side: Tensor
    centre: Tensor
    pair: Tensor
    further: Tensor
    order: Tensor


class CropSampler:
    """Draws the boxes of an image's crops from a private generator.

    1. A window of side U[window] of the frame, placed at random.
    2. Two crops inside it: area log-uniform in ``area`` of the window, aspect log-uniform in
       ``ratio``, centre uniform where the crop fits.
    3. Pairs whose IoU is above ``max_iou`` are drawn again, at most ``tries`` times in all, for
       the whole batch at once; where no try was good enough, the one with the least overlap is
       kept. So it never fails and never loops for ever.
    4. Each further crop likewise: the first of ``tries`` whose IoU with every earlier crop is
       within ``max_iou``, or the one whose largest is the least. As later crops lie where the
       earlier ones left room, the order is shuffled in the end, image by image: so every pair
       of crops has the same distribution.

    Args:
        area: least and largest area, fractions of the window; or two such ranges, the first at
            the start of training and the second at its end.
        ratio: least and largest aspect (width / height).
        window: least and largest side of the window, fractions of the frame; (1, 1) for none.
        max_iou: largest overlap of a pair in [0, 1]; or two, from the start to the end.
        tries: how often a crop is drawn for each image, at most.
        num_crops: how many are kept of each image, 2 or more.

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
    ) -> None:
        self.crop_scale = (
            crop_scale if isinstance(crop_scale[0], tuple) else (crop_scale, crop_scale)
        )
        self.crop_ratio = crop_ratio
        self.window = window
        self.max_iou = max_iou if isinstance(max_iou, tuple) else (max_iou, max_iou)
        self.tries = tries
        self.num_crops = num_crops

    def __call__(
        self, n: int, generator: torch.Generator, progress: float | Tensor = 1.0
    ) -> Tensor:
        """Draw the crops of ``n`` images.

        Args:
            n: how many images.
            generator: a private CPU generator; nothing else is drawn from.
            progress: how far training has come, in [0, 1]; a tensor (n,) gives each its own.

        Returns:
            Boxes in the frame, (crops, n, 4), float32, on the CPU.
        """
        return self.to_boxes(self.draw_uniform(n, generator), progress)

    def draw_uniform(self, n: int, generator: torch.Generator) -> UniformDraws:
        """Draw what decides the crops of ``n`` images."""
        further = self.num_crops - 2
        return UniformDraws(
            side=rand_cpu(n, 1, generator=generator),
            centre=rand_cpu(n, 2, generator=generator),
            pair=rand_cpu(4, 2, self.tries, n, generator=generator),
            further=rand_cpu(4, further, self.tries, n, generator=generator),
            order=rand_cpu(self.num_crops if further else 0, n, 1, generator=generator),
        )

    def to_boxes(self, numbers: UniformDraws, progress: float | Tensor = 1.0) -> Tensor:
        """The boxes (crops, n, 4) that the numbers decide."""
        area_now = [lerp(*ends, progress) for ends in zip(*self.crop_scale, strict=True)]
        limit = lerp(*self.max_iou, progress)
        # Overlap is the same inside the window as outside.
        pair = self._inside(numbers.pair, area_now)
        boxes = _first_valid(pair, paired_iou(pair[0], pair[1]), limit)
        if self.num_crops > 2:
            for tried in self._inside(numbers.further, area_now).unbind():
                overlap = paired_iou(tried, boxes.unsqueeze(1)).amax(dim=0)
                boxes = torch.cat([boxes, _first_valid(tried.unsqueeze(0), overlap, limit)])
            order = numbers.order.argsort(dim=0)
            boxes = boxes.gather(0, order.expand(-1, -1, 4))
        return to_parent_frame(boxes, self._window(numbers.side, numbers.centre))

    def windows(self, n: int, generator: torch.Generator) -> Tensor:
        """The windows (n, 4) in the frame of the images that a call would draw."""
        return self._window(*self.draw_uniform(n, generator)[:2])

    def _window(self, u_side: Tensor, u_centre: Tensor) -> Tensor:
        low, high = self.window
        side = low + (high - low) * u_side
        return torch.cat([side / 2 + (1 - side) * u_centre, side, side], dim=1)

    def _inside(self, numbers: Tensor, area: list[Any]) -> Tensor:
        """Boxes (..., 4) in the window, from numbers (4, ...)."""
        u_area, u_ratio, u_x, u_y = numbers.unbind()
        # Products, as a graph would be made anew for each number that is made a tensor.
        one = torch.ones((), device=_CPU, dtype=torch.float32)
        smallest, largest = ((one * end).float().log() for end in area)
        log_area = lerp(smallest, largest, u_area)
        # A side is at most the window's: sqrt(area * ratio) <= 1 in both directions.
        narrow, wide = (math.log(end) for end in self.crop_ratio)
        log_ratio = lerp(narrow, wide, u_ratio).clamp(log_area, -log_area)
        w, h = ((log_area + log_ratio) / 2).exp(), ((log_area - log_ratio) / 2).exp()
        return torch.stack([w / 2 + (1 - w) * u_x, h / 2 + (1 - h) * u_y, w, h], dim=-1)


def _first_valid(tried: Tensor, overlap: Tensor, limit: float | Tensor) -> Tensor:
    """Of each image's tries the first whose overlap is within the limit, else the one of least.

    Args:
        tried: (m, tries, n, 4).
        overlap: (tries, n).
        limit: of the overlap, for all or (n,).

    Returns:
        (m, n, 4).
    """
    good = overlap <= limit
    first_good = good.to(torch.uint8).argmax(dim=0)
    kept = torch.where(good.any(dim=0), first_good, overlap.argmin(dim=0))
    return tried[:, kept, torch.arange(len(kept), device=_CPU)]
