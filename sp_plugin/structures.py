"""What flows between the parts of SP: crops, locations of views, encoded views, and the output."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "RGB_CHANNELS",
    "Crops",
    "EncodedViews",
    "SPOutput",
    "UncoloredCrops",
    "ViewBoxes",
    "add_sp_part",
]

RGB_CHANNELS = 3  # of images, views and crops where nothing else is known


class Crops(NamedTuple):
    """Crops to encode: k of each of B images.

    Attributes:
        boxes: (k, B, 4), (cx, cy, w, h) as fractions of the frame that the crops of an image share.
        pixels: (kB, C, h, w), all first crops, then all second ones ...; normalised as the
            backbone expects.
    """

    boxes: Tensor
    pixels: Tensor

    @classmethod
    def from_batch(cls, sample: Mapping[str, Any]) -> Crops | UncoloredCrops:
        """Convert a collated batch of `sp_plugin.crops.transform.ImageCrops` samples.

        Args:
            sample: ``crops`` (B, k, C, h, w), ``boxes`` (B, k, 4) and, where the crops get their
                colours on the device, ``normalization`` (B, 3, C).

        >>> sample = {"crops": torch.zeros(5, 2, 3, 8, 8), "boxes": torch.zeros(5, 2, 4)}
        >>> crops = Crops.from_batch(sample)
        >>> crops.boxes.shape, crops.pixels.shape
        (torch.Size([2, 5, 4]), torch.Size([10, 3, 8, 8]))
        """
        boxes, pixels = sample["boxes"].transpose(0, 1), torch.cat(sample["crops"].unbind(1))
        if "normalization" in sample:
            return UncoloredCrops(boxes, pixels, sample["normalization"])
        return cls(boxes, pixels)

    def of_images(self, indices: Tensor) -> Crops:
        """The crops of some images, by their indices (n,) in the batch."""
        pixels = self.pixels.reshape(*self.boxes.shape[:2], *self.pixels.shape[1:])
        return Crops(self.boxes[:, indices], pixels[:, indices].flatten(0, 1))


class UncoloredCrops(NamedTuple):
    """Crops as they were cut in the data loader, which get their colours on the device.

    `sp_plugin.crops.batch_colors.color_crops` makes `Crops` of them.

    Attributes:
        boxes: as for `Crops`.
        pixels: as for `Crops`; uint8, or floats, of RGB and grey images in [0, 1].
        normalization: (B, 3, C), for each channel of an image the number in ``pixels`` that stands
            for 1, and mean and standard deviation in that unit, by which the coloured crops are
            normalised.
        channels: of the coloured crops those that are kept, in this order; None: all. The numbers
            in ``normalization`` are then theirs.
    """

    boxes: Tensor
    pixels: Tensor
    normalization: Tensor
    channels: tuple[int, ...] | None = None

    def of_images(self, indices: Tensor) -> UncoloredCrops:
        """The crops of some images, by their indices (n,) in the batch."""
        crops = Crops(self.boxes, self.pixels).of_images(indices)
        return UncoloredCrops(*crops, self.normalization[indices], self.channels)


class ViewBoxes(NamedTuple):
    """Locations of the V views of each of B images.

    Attributes:
        boxes: (V, B, 4), (cx, cy, w, h) as fractions of the original image; NaN where unknown.
        flips: (V, B, 2), -1 where a view is flipped left to right, top to bottom, else 1.
    """

    boxes: Tensor
    flips: Tensor

    @classmethod
    def from_batch(cls, sample: Mapping[str, Any]) -> ViewBoxes:
        """Convert a collated batch of `sp_plugin.views.transform.ViewBoxTransform` samples.

        Args:
            sample: ``boxes`` (B, V, 4) and ``flips`` (B, V, 2).

        >>> sample = {"boxes": torch.zeros(5, 8, 4), "flips": torch.ones(5, 8, 2)}
        >>> ViewBoxes.from_batch(sample).boxes.shape
        torch.Size([8, 5, 4])
        """
        return cls(sample["boxes"].transpose(0, 1), sample["flips"].transpose(0, 1))


def add_sp_part(views: Any, sp: Mapping[str, Any], has_target: bool) -> Any:
    """What a method's transform returned, with SP's part of the sample next to the views.

    `sp_plugin.batch.split_batch` separates both again.

    Args:
        views: what the transform returned.
        sp: SP's part.
        has_target: whether the transform was called with more than an image; of a tuple the first
            entry then has the views.

    >>> add_sp_part("views", {}, False)
    {'views': 'views', 'sp': {}}
    >>> add_sp_part(("views", "target"), {}, True)
    ({'views': 'views', 'sp': {}}, 'target')
    """
    if not (has_target and isinstance(views, tuple) and views):
        return {"views": views, "sp": sp}
    items = ({"views": views[0], "sp": sp}, *views[1:])
    make = getattr(type(views), "_make", type(views))  # of a NamedTuple
    return make(items)


class EncodedViews(NamedTuple):
    """Features of k crops or views of each of B images, with their locations.

    Attributes:
        features: (k, B, D), pooled; on the host's own graph where the host computed them.
        boxes: (k, B, 4), (cx, cy, w, h) as fractions of a frame that the k share; NaN where a view
            does not count.
        flips: (k, B, 2), -1 where a view is flipped left to right, top to bottom, else 1; None:
            no view is flipped and every box is known.
    """

    features: Tensor
    boxes: Tensor
    flips: Tensor | None = None

    def of_images(self, indices: Tensor) -> EncodedViews:
        """The views of some images, by their indices (n,) in the batch."""
        flips = None if self.flips is None else self.flips[:, indices]
        return EncodedViews(self.features[:, indices], self.boxes[:, indices], flips)


@dataclass
class SPOutput:
    """Result of one SP step on P pairs of crops in each of B images.

    Attributes:
        loss: scalar, weighted, to add to the method's loss; reaches backbone and head.
        metrics: detached scalars on the images' device: ``loss`` (unweighted), ``r2_dx``,
            ``r2_dy``, ``r2_scale``, ``weight`` (factor of the loss) and ``skipped_fraction``
            (share of pairs left out; 1 where the loss was not finite). R2 of a single pair is
            NaN. On a GPU a backbone that overflows inside still gets NaN from its own backward
            pass: a check would synchronise the device.
        boxes: (2, PB, 4), crops a and b in the images; the first B belong to the first pair.
        prediction: (PB, 3), predicted x, y and sigma, in standard deviations.
        target: (PB, 3), their true values.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    boxes: Tensor
    prediction: Tensor
    target: Tensor

    def scaled(self, weight: float | Tensor) -> SPOutput:
        """Copy with the loss multiplied by ``weight``, which becomes a metric."""
        # A product, not a fill: a graph would be made anew for each value that it fills in.
        factor = torch.ones_like(self.loss).detach() * weight
        return dataclasses.replace(
            self, loss=self.loss * weight, metrics={**self.metrics, "weight": factor}
        )

    def loggable_metrics(self, prefix: str = "") -> dict[str, Tensor]:
        """Metrics that a logger can average over an epoch, where one NaN would spoil the mean.

        R2 of a single pair is undefined and left out. Where no pair counts (views that are
        flipped at random) R2 is NaN and becomes 0, which also means "no information".

        Args:
            prefix: start of each name, such as ``train_sp_``.
        """
        several = len(self.target) > 1
        return {
            f"{prefix}{name}": value.nan_to_num(0.0) if name.startswith("r2") else value
            for name, value in self.metrics.items()
            if several or not name.startswith("r2")
        }
