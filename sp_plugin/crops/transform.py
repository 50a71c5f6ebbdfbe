"""Transforms of the data set: crops of the original image, next to the method's own views.

With ``source="image"`` SP's crops come from the original image rather than from the method's random
crop of it, and each crop has its own colours: jitter, greyscale and blur are drawn for each, so
that light that drifts across an image does not reveal where a crop lies. Images of more or fewer
channels than RGB have a gain and an offset for each channel instead. Flips are of the whole image.

The transform only cuts. Colours and normalisation follow on the device, for the whole batch at once
(`sp_plugin.crops.batch_colors`). They are applied here where that is impossible: colours of the
user's own, and a normalisation that is no ``Normalize`` of torchvision.

Needs torchvision, as every image pipeline does; nothing else in the package does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from sp_plugin.config import DEFAULT_VIEW_SIZE, ResolvedConfig, SPConfig
from sp_plugin.crops.batch_colors import recolor
from sp_plugin.crops.images import (
    array_to_tensor,
    convert_image,
    crop_image,
    has_8_bits,
    hflip_image,
    image_hash,
    image_size,
    stack_images,
)
from sp_plugin.crops.one_image import Box, boxes_of_one_image, resolution_of_one_image
from sp_plugin.crops.sampler import rand_cpu
from sp_plugin.crops.samples import find_image, without_masks
from sp_plugin.isolation import hash_seed, make_generator, private_rng, rng_fingerprint
from sp_plugin.nested import tree_leaves
from sp_plugin.sizes import Size, height_and_width, to_size
from sp_plugin.structures import add_sp_part
from sp_plugin.validation import ConfigError, needs_packages

with needs_packages("sp_plugin.SPTransform", "torchvision"):
    from torchvision import transforms as v1
    from torchvision.transforms import v2

__all__ = ["ImageCrops", "SPTransform", "find_normalize"]

_NORMALIZES = (v1.Normalize, v2.Normalize)  # subclasses of theirs may do more


class ImageCrops:
    """Transform from an image to SP's crops and their boxes.

    The frame of the boxes is the largest square that fits the image, at a random location: a crop
    then keeps its shape whatever the image's shape. Where ``crop_size`` is no square, the frame has
    its shape.

    The draws depend on the seed, the image and the state of the global generators, which is read
    and not changed: where the method's transform draws alike, so does SP.

    The image is converted as the method's views show it: to RGB where they have three channels.

    Args:
        config: settings; ``source`` is taken to be ``image``.
        normalize: applied to each crop last, like the method's normalisation of its views: on the
            device if it is a ``Normalize`` of torchvision, else here.
        color_transform: applied to each crop here, a PIL image or a tensor in [0, 1] (C, h, w);
            None, on the device: of RGB the jitter (0.4, 0.4, 0.2, 0.1; p 0.8) and greyscale (p 0.2)
            of BYOL (arXiv 2006.07733, appendix B) and the blur (p 0.5) of SimCLR (arXiv 2002.05709,
            appendix A); of grey images the same brightness, contrast and blur; of others a gain and
            an offset for each channel and the same blur.
        flip: probability in [0, 1] that the whole image is flipped before it is cropped.
        view_size: size of the method's views in pixels, for settings that are left open; None:
            from `infer_view_size`, or 224.

    Raises:
        ConfigError: settings that move during training, which a data set cannot follow; when
            called: a transform of the method that returns no tensors.

    >>> image = torch.randint(256, (3, 60, 80), dtype=torch.uint8)
    >>> sample = ImageCrops({"crop_size": 24})(image)
    >>> {name: tuple(value.shape) for name, value in sample.items()}
    {'crops': (4, 3, 24, 24), 'boxes': (4, 4), 'normalization': (3, 3)}
    >>> sample["crops"].dtype
    torch.uint8
    """

    def __init__(
        self,
        config: SPConfig | Mapping[str, Any] | None = None,
        normalize: Callable[[Tensor], Tensor] | None = None,
        color_transform: Callable[[Any], Any] | None = None,
        flip: float = 0.5,
        view_size: Size | None = None,
    ) -> None:
        self.normalize = normalize
        self.color_transform = color_transform
        self.flip = flip
        self._channels: int | None = None  # of the method's views, once one was made
        self._known_rows: tuple[Any, Tensor | None] = (None, None)  # what for, and the rows
        self._has_bytes: bool | None = None  # whether images are of 8 bits, once one was read
        self.set_config(SPConfig.from_dict(config), view_size)

    def set_config(self, config: SPConfig, view_size: Size | None = None) -> None:
        """Replace the settings; what they leave open follows from the view size in pixels."""
        self._view_size = view_size
        self._user_config = dataclasses.replace(config, source="image")
        self.config: ResolvedConfig = self._user_config.resolve(view_size or DEFAULT_VIEW_SIZE)
        self._sampler = self.config.build_sampler()

    def infer_view_size(self, views: Any, image: Any) -> None:
        """Resolve what is open by the first views: the size of the crops, and their channels.

        That is by the largest of them, as in `sp_plugin.view_search`.

        Args:
            views: a tensor (..., C, H, W) or any nesting of them; masks and the like do not count,
                nor integers where there are floats.
            image: that the views were made of.

        Raises:
            ConfigError: there are no tensors among them.
        """
        if self._view_size is not None and self._channels is not None:
            return
        tensors = list(tree_leaves(views, _is_view))
        if not tensors:
            raise ConfigError(
                "source: 'image' takes a transform that returns tensors, "
                f"got {type(views).__name__}"
            )
        floats = [tensor for tensor in tensors if tensor.is_floating_point()]
        found = without_masks(floats or tensors, array_to_tensor(image))
        largest = max(found, key=lambda view: view.shape[-2] * view.shape[-1])
        self._channels = int(largest.shape[-3])
        if self._view_size is None:
            self.set_config(self._user_config, to_size(*largest.shape[-2:]))

    def rng_key(self, image: Any) -> int:
        """Seed of the draws for an image; reads the global generators and does not change them."""
        image = array_to_tensor(image)
        return hash_seed(self.config.seed, *rng_fingerprint(), image_hash(image))

    def __call__(self, image: Any, key: int | None = None) -> dict[str, Tensor]:
        """Draw and cut the crops of one image.

        Args:
            image: a PIL image of any mode, an array (H, W, C) or a tensor (C, H, W); see
                `sp_plugin.crops.images.convert_image`.
            key: from `rng_key`, where that was called before the method's transform drew.

        Returns:
            ``crops`` (k, C, h, w), uint8 where the image has 8 bits, else floats; ``boxes`` (k, 4)
            in the frame; and ``normalization`` (3, C), see
            `sp_plugin.structures.UncoloredCrops`. With k = ``num_crops`` and h, w of
            ``crop_size``. Crops that are coloured and normalised here are floats, and come without
            ``normalization``.
        """
        key = self.rng_key(image) if key is None else key
        original, generator = array_to_tensor(image), make_generator(key)
        crops, boxes = self._cut(convert_image(original, self._channels), generator)
        if self.color_transform is not None:
            with private_rng(key):
                return {"crops": self._normalized(map(self.color_transform, crops)), "boxes": boxes}
        pixels, has_bytes = stack_images(crops), has_8_bits(original)
        normalization = self._normalization(has_bytes, pixels.shape[1])
        if normalization is None:  # colours come first
            unit = pixels.float() if pixels.is_floating_point() else pixels / 255
            pixels = recolor(unit, generator)
            with private_rng(key):
                return {"crops": self._normalized(pixels), "boxes": boxes}
        self._check_depth(has_bytes)
        if has_bytes and pixels.is_floating_point():
            pixels = (pixels * 255).round_().to(torch.uint8)
        return {"crops": pixels, "boxes": boxes, "normalization": normalization}

    def _cut(self, image: Any, generator: torch.Generator) -> tuple[list[Any], Tensor]:
        """Crops of an image, of its type, and their boxes (k, 4) in the frame."""
        size = self.config.crop_size
        in_frame = boxes_of_one_image(self._sampler, generator)
        u_x, u_y, u_flip = rand_cpu(3, generator=generator).tolist()
        is_flipped = u_flip < self.flip
        in_pixels = _to_pixels(in_frame, image_size(image), size, (u_x, u_y), is_flipped)
        resolution = None
        if self.config.sharpness == "equal":
            draw = rand_cpu(1, 1, generator=generator).item()
            resolution = resolution_of_one_image(in_pixels, size, draw)
        crops = [crop_image(image, box, size, resolution) for box in in_pixels]
        if is_flipped:
            crops = [hflip_image(crop) for crop in crops]
        return crops, torch.tensor(in_frame, dtype=torch.float32, device="cpu")

    def _check_depth(self, has_bytes: bool) -> None:
        """Refuse what a worker fails to collate: a batch there has the type of its first crops."""
        if self._has_bytes not in (None, has_bytes) and get_worker_info() is not None:
            raise ConfigError(
                "source: 'image' got images of 8 bits and deeper ones, takes images of one depth "
                "in the workers of a data loader"
            )
        self._has_bytes = has_bytes

    def _normalized(self, crops: Iterable[Any]) -> Tensor:
        pixels = (crop if isinstance(crop, Tensor) else _to_float(crop) for crop in crops)
        return torch.stack([self.normalize(crop) if self.normalize else crop for crop in pixels])

    def _normalization(self, has_bytes: bool, channels: int) -> Tensor | None:
        """As of `UncoloredCrops`, for one image; None: only calling ``normalize`` can tell."""
        key = (self.normalize, has_bytes, channels)
        if self._known_rows[0] != key:
            self._known_rows = key, _normalization_rows(*key)
        return self._known_rows[1]


class SPTransform:
    """The method's transform, with SP's crops next to its views; the views stay bit for bit equal.

    Args:
        transform: the method's transform, from an image to views in any nesting.
        config: settings of SP, the same as those of the run, by which the targets of these crops
            are normalised. An `SPCallback` that finds this transform in the data set replaces them
            by its own.
        color_transform: as for `ImageCrops`, in place of SP's own colours.
        **settings: settings by name, over those of ``config``.

    >>> transform = SPTransform(lambda image: [image, image], crop_size=16)
    >>> sample = transform(torch.rand(3, 32, 32))
    >>> len(sample["views"]), sample["sp"]["crops"].shape
    (2, torch.Size([4, 3, 16, 16]))
    """

    def __init__(
        self,
        transform: Callable[[Any], Any],
        config: SPConfig | Mapping[str, Any] | None = None,
        color_transform: Callable[[Any], Any] | None = None,
        **settings: Any,
    ) -> None:
        self.transform = transform
        self.crops = ImageCrops(
            SPConfig.from_dict(config, **settings), find_normalize(transform), color_transform
        )

    def set_config(self, config: SPConfig) -> None:
        """Replace the settings, before the first image is read."""
        self.crops.set_config(config)

    def __call__(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        """Make the views of an image, and crops of it.

        Args:
            image: as for `ImageCrops`; or a mapping with it, see
                `sp_plugin.crops.samples.find_image`.
            *args: more for the method's transform, such as a target.
            **kwargs: likewise.

        Returns:
            ``views``, and under ``sp`` what `ImageCrops` returns. Where the method's transform
            gets more than an image and returns a tuple, such as (views, target), that tuple with
            its first entry replaced by this.
        """
        sample, image = image, find_image(image)
        key = self.crops.rng_key(image)  # before the method's transform draws
        views = self.transform(sample, *args, **kwargs)
        self.crops.infer_view_size(views, image)
        return add_sp_part(views, self.crops(image, key), bool(args or kwargs))

    def __repr__(self) -> str:
        return f"SPTransform({self.transform!r})"


def _is_view(item: Any) -> bool:
    return isinstance(item, Tensor) and item.ndim >= 3


def _to_float(image: Any) -> Tensor:
    """A PIL image of any mode, such as a color_transform may return, as floats in [0, 1]."""
    pixels: Tensor = v2.functional.to_dtype(v2.functional.pil_to_tensor(image), scale=True)
    return pixels


def _normalization_rows(normalize: Any, has_bytes: bool, channels: int) -> Tensor | None:
    white, mean, std = [255.0 if has_bytes else 1.0], [0.0], [1.0]
    if type(normalize) in _NORMALIZES:
        mean, std = _numbers(normalize.mean), _numbers(normalize.std)
    elif normalize is not None:
        return None
    rows = [part * channels if len(part) == 1 else part for part in (white, mean, std)]
    fits = all(len(row) == channels for row in rows)
    return torch.tensor(rows, dtype=torch.float32, device="cpu") if fits else None


def _numbers(numbers: Any) -> list[float]:
    values = torch.as_tensor(numbers, dtype=torch.float32, device="cpu")
    listed: list[float] = values.flatten().tolist()
    return listed


def _to_pixels(
    boxes: list[Box],
    image_size: tuple[int, int],
    crop_size: Size,
    place: tuple[float, float],
    is_flipped: bool,
) -> list[Box]:
    """Boxes in pixels of an image, of boxes in the largest frame of the crops' shape that fits it.

    The frame lies at a ``place`` in [0, 1) along both axes. A crop of the flipped image is the
    flipped crop of the image, from the other side.
    """
    (width, height), (rows, columns) = image_size, height_and_width(crop_size)
    if width * rows >= height * columns:
        frame = height * columns / rows, float(height)
    else:
        frame = float(width), width * rows / columns
    left, top = place[0] * (width - frame[0]), place[1] * (height - frame[1])
    return [
        (
            left + frame[0] * (1 - x if is_flipped else x),
            top + frame[1] * y,
            frame[0] * w,
            frame[1] * h,
        )
        for x, y, w, h in boxes
    ]


def find_normalize(transform: Any) -> Callable[[Tensor], Tensor] | None:
    """The first ``Normalize``, or one of a subclass, inside a transform; None: there is none.

    >>> from torchvision import transforms as v1
    >>> find_normalize([v1.Compose([v1.ToTensor(), v1.Normalize((0.5,), (0.2,))])])
    Normalize(mean=(0.5,), std=(0.2,))
    """
    visited: set[int] = set()
    queue = [transform]
    while queue:
        part = queue.pop(0)
        if id(part) in visited:
            continue
        visited.add(id(part))
        is_normalize = any(cls.__name__ == "Normalize" for cls in type(part).__mro__)
        if is_normalize and hasattr(part, "mean") and hasattr(part, "std"):
            normalize: Callable[[Tensor], Tensor] = part
            return normalize
        if isinstance(part, (list, tuple)):
            queue.extend(part)
        elif isinstance(part, Mapping):
            queue.extend(part.values())
        elif hasattr(part, "__dict__"):
            queue.extend(vars(part).values())
    return None
