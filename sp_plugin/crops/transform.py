"""Transforms of the data set: crops of the original image, next to the method's own views.

With ``source="image"`` SP's crops come from the original image rather than from the method's random
crop of it, and each crop has its own colours: jitter, greyscale and blur are drawn for each, so
that light that drifts across an image does not reveal where a crop lies. Images of more or fewer
channels than RGB have a gain and an offset for each channel instead. Flips are of the whole image.

Needs torchvision, as every image pipeline does; nothing else in the package does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sp_plugin.config import DEFAULT_VIEW_SIZE, ResolvedConfig, SPConfig
from sp_plugin.crops.boxes import hflip_boxes
from sp_plugin.crops.colors import ChannelJitter
from sp_plugin.crops.images import (
    array_to_tensor,
    convert_image,
    count_channels,
    crop_image,
    image_hash,
    image_size,
)
from sp_plugin.crops.resize import matched_resolution
from sp_plugin.crops.sampler import rand_cpu
from sp_plugin.crops.samples import find_image
from sp_plugin.isolation import hash_seed, make_generator, private_rng, rng_fingerprint
from sp_plugin.nested import tree_leaves
from sp_plugin.sizes import Size, height_and_width, shorter_side, to_size
from sp_plugin.structures import RGB_CHANNELS, add_sp_part
from sp_plugin.validation import ConfigError, needs_packages

with needs_packages("sp_plugin.SPTransform", "torchvision"):
    from torchvision.transforms import v2

__all__ = ["ImageCrops", "SPTransform", "find_normalize"]

_COLOR_JITTER = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue


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
        normalize: applied to each crop last, like the method's normalisation of its views.
        color_transform: applied to each crop, a PIL image or a tensor in [0, 1] (C, h, w);
            None: of RGB the jitter (0.4, 0.4, 0.2, 0.1; p 0.8), greyscale (p 0.2) and blur (p 0.5)
            of SimCLR (arXiv 2002.05709, appendix A); of grey images its brightness, contrast and
            blur; of others a gain and an offset for each channel
            (`sp_plugin.crops.colors.ChannelJitter`) and the same blur.
        flip: probability in [0, 1] that the whole image is flipped before it is cropped.
        view_size: size of the method's views in pixels, for settings that are left open; None:
            from `infer_view_size`, or 224.

    Raises:
        ConfigError: settings that move during training, which a data set cannot follow; when
            called: a transform of the method that returns no tensors.

    >>> sample = ImageCrops({"crop_size": 24})(torch.rand(3, 60, 80))
    >>> sample["crops"].shape, sample["boxes"].shape
    (torch.Size([4, 3, 24, 24]), torch.Size([4, 4]))
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
        self.set_config(SPConfig.from_dict(config), view_size)

    def set_config(self, config: SPConfig, view_size: Size | None = None) -> None:
        """Replace the settings; what they leave open follows from the view size in pixels."""
        self._view_size = view_size
        self._user_config = dataclasses.replace(config, source="image")
        self.config: ResolvedConfig = self._user_config.resolve(view_size or DEFAULT_VIEW_SIZE)
        self._sampler = self.config.build_sampler()
        side = shorter_side(self.config.crop_size)
        self._simclr_colors, self._band_colors = _simclr_colors(side), _band_colors(side)

    def infer_view_size(self, views: Any) -> None:
        """Resolve what is open by the method's first views, a tensor or any nesting of them.

        That is the size of the crops, and how many channels they have.
        """
        if self._view_size is None or self._channels is None:
            first = next(tree_leaves(views, _is_view), None)
            if first is None:
                raise ConfigError(
                    "source: 'image' takes a transform that returns tensors, "
                    f"got {type(views).__name__}"
                )
            self._channels = int(first.shape[-3])
            if self._view_size is None:
                self.set_config(self._user_config, to_size(*first.shape[-2:]))

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
            ``crops`` (k, C, h, w), float32, normalised, and ``boxes`` (k, 4) in the frame, with
            k = ``num_crops`` and h, w of ``crop_size``.
        """
        key = self.rng_key(image) if key is None else key
        image = convert_image(array_to_tensor(image), self._channels)
        generator = make_generator(key)
        boxes = self._sampler(1, generator)[:, 0]
        width, height = image_size(image)
        frame = _largest_frame(width, height, self.config.crop_size)
        u_x, u_y, u_flip = rand_cpu(3, generator=generator).tolist()
        corner = torch.tensor([u_x * (width - frame[0]), u_y * (height - frame[1])])
        sides = torch.tensor(frame * 2)
        resolution = None
        if self.config.sharpness == "equal":
            draws = rand_cpu(1, 1, generator=generator)
            pixels = boxes[:, None, 2:] * sides[2:]
            resolution = matched_resolution(pixels, self.config.crop_size, draws)[0]
        is_flipped = u_flip < self.flip
        # A crop of the flipped image is the flipped crop of the image, from the other side.
        pixel_boxes = (hflip_boxes(boxes) if is_flipped else boxes) * sides
        recolor = self._colors_of(image)
        crops = []
        with private_rng(key):
            for box in pixel_boxes:
                box[:2] += corner
                crop = crop_image(image, box, self.config.crop_size, resolution)
                crop = v2.functional.hflip(crop) if is_flipped else crop
                crops.append(self._to_normalized_tensor(recolor(crop)))
        return {"crops": torch.stack(crops), "boxes": boxes}

    def _colors_of(self, image: Any) -> Callable[[Any], Any]:
        if self.color_transform is not None:
            return self.color_transform
        has_colors = count_channels(image) in (1, RGB_CHANNELS)
        return self._simclr_colors if has_colors else self._band_colors

    def _to_normalized_tensor(self, crop: Any) -> Tensor:
        if not isinstance(crop, Tensor):
            crop = v2.functional.to_dtype(v2.functional.pil_to_tensor(crop), scale=True)
        return self.normalize(crop) if self.normalize else crop


class SPTransform:
    """The method's transform, with SP's crops next to its views; the views stay bit for bit equal.

    Args:
        transform: the method's transform, from an image to views in any nesting.
        config: settings of SP. An `SPCallback` that finds this transform in the data set replaces
            them by its own.
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
            ``views``, and under ``sp``: ``crops`` (k, C, h, w) and ``boxes`` (k, 4); see
            `ImageCrops`. Where the method's transform gets more than an image and returns a tuple,
            such as (views, target), that tuple with its first entry replaced by this.
        """
        sample, image = image, find_image(image)
        key = self.crops.rng_key(image)  # before the method's transform draws
        views = self.transform(sample, *args, **kwargs)
        self.crops.infer_view_size(views)
        return add_sp_part(views, self.crops(image, key), bool(args or kwargs))

    def __repr__(self) -> str:
        return f"SPTransform({self.transform!r})"


def _is_view(item: Any) -> bool:
    return isinstance(item, Tensor) and item.ndim >= 3


def _largest_frame(width: int, height: int, crop_size: Size) -> tuple[float, float]:
    """Width and height of the largest box of the crops' shape that fits an image, in pixels."""
    rows, columns = height_and_width(crop_size)
    if width * rows >= height * columns:
        return height * columns / rows, float(height)
    return float(width), width * rows / columns


def _simclr_colors(side: int) -> Callable[[Any], Any]:
    jitter = v2.RandomApply([v2.ColorJitter(*_COLOR_JITTER)], p=0.8)
    chain: Callable[[Any], Any] = v2.Compose([jitter, v2.RandomGrayscale(p=0.2), _blur(side)])
    return chain


def _band_colors(side: int) -> Callable[[Any], Any]:
    chain: Callable[[Any], Any] = v2.Compose([ChannelJitter(), _blur(side)])
    return chain


def _blur(side: int) -> Callable[[Any], Any]:
    # SimCLR blurs views of 224 px with a sigma of 0.1 to 2 px and a kernel of a tenth of the side.
    kernel = max(3, side // 10 // 2 * 2 + 1)
    blur: Callable[[Any], Any] = v2.RandomApply(
        [v2.GaussianBlur(kernel, (0.1, max(0.2, 2.0 * side / 224)))], p=0.5
    )
    return blur


def find_normalize(transform: Any) -> Callable[[Tensor], Tensor] | None:
    """The first torchvision ``Normalize`` inside a transform, however deep; None: there is none.

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
        if type(part).__name__ == "Normalize" and hasattr(part, "mean") and hasattr(part, "std"):
            normalize: Callable[[Tensor], Tensor] = part
            return normalize
        if isinstance(part, (list, tuple)):
            queue.extend(part)
        elif isinstance(part, Mapping):
            queue.extend(part.values())
        elif hasattr(part, "__dict__"):
            queue.extend(vars(part).values())
    return None
