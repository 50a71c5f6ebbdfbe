"""Crops from the original image, made in the data set beside the host's own views.

With ``source="image"`` SP asks about the image itself rather than about the host's random crop
of it, and each crop has its own colours: jitter, grey and blur, drawn apart, so that light that
drifts across an image does not tell where a crop lies. Flips are of the whole image.

Needs torchvision, as every pipeline of images does; nothing else in the package does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from sp_plugin.config import ResolvedConfig, SPConfig
from sp_plugin.crops import boxes as geometry
from sp_plugin.crops.images import crop_image, image_hash, image_size
from sp_plugin.crops.sampler import rand_cpu
from sp_plugin.crops.sharpness import matched_resolution
from sp_plugin.isolation import hash_seed, make_generator, private_rng, rng_fingerprint

_FRAME = 224  # px, where nothing else is known
_JITTER = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue


class ImageCrops:
    """The crops of an image and their boxes.

    The frame in which the boxes lie is the largest square that fits the image, placed at
    random: a crop then keeps its shape whatever the image's is.

    What is drawn depends on the seed, the image and the state of the host's generators, which
    are looked at and left as they were: where a host draws alike, so does SP.

    Args:
        config: settings; ``source`` is ``image`` whatever it says.
        normalize: applied to each crop last, as the host's own normalisation is to its views.
        color_transform: applied to each crop apart, a PIL image or a tensor in [0, 1] (C, S, S);
            None: jitter (0.4, 0.4, 0.2, 0.1; p 0.8), grey (p 0.2) and blur (p 0.5) of SimCLR
            (arXiv 2002.05709, appendix A).
        flip: how often the whole image is flipped before it is cropped, in [0, 1].
        frame: shorter side of the host's views in pixels, for the settings that are left open;
            None: `suit` tells, or 224.

    Raises:
        ConfigError: ranges that move with training, which a data set cannot follow.

    >>> sample = ImageCrops({"size": 24})(torch.rand(3, 60, 80))
    >>> sample["crops"].shape, sample["boxes"].shape
    (torch.Size([4, 3, 24, 24]), torch.Size([4, 4]))
    """

    def __init__(
        self,
        config: SPConfig | Mapping[str, Any] | None = None,
        normalize: Callable[[Tensor], Tensor] | None = None,
        color_transform: Callable[[Any], Any] | None = None,
        flip: float = 0.5,
        frame: int | None = None,
    ) -> None:
        self.normalize = normalize
        self.color_transform = color_transform
        self.flip = flip
        given = config.asdict() if isinstance(config, SPConfig) else config
        self.set_config(SPConfig.from_dict(given), frame)

    def set_config(self, config: SPConfig, frame: int | None = None) -> None:
        """Take settings, and what they leave open for views of ``frame`` pixels."""
        self._frame = frame
        self._given = dataclasses.replace(config, source="image")
        self.config: ResolvedConfig = self._given.resolve(frame or _FRAME)
        self._sampler = self.config.build_sampler()
        self._color_transform = self.color_transform or _simclr(self.config.crop_size)

    def infer_view_size(self, views: Any) -> None:
        """Settle what is open by the host's first views, a tensor or any nesting of them."""
        if self._frame is None:
            self.set_config(self._given, _side(views))

    def rng_key(self, image: Any) -> int:
        """What decides the draws for an image; from the host's generators, which do not move."""
        return hash_seed(self.config.seed, *rng_fingerprint(), image_hash(image))

    def __call__(self, image: Any, key: int | None = None) -> dict[str, Tensor]:
        """Draw the crops of one image.

        Args:
            image: a PIL image, or a tensor (C, H, W), floating point in [0, 1] or uint8.
            key: of `key`, where that was asked before the host's generator moved on.

        Returns:
            ``crops`` (k, C, size, size), float32, normalised, and ``boxes`` (k, 4) in the frame,
            k being the setting ``crops``.
        """
        key = self.rng_key(image) if key is None else key
        generator = make_generator(key)
        boxes = self._sampler(1, generator)[:, 0]
        width, height = image_size(image)
        side = min(width, height)
        *place, flip = rand_cpu(3, generator=generator).tolist()
        frame = torch.tensor([place[0] * (width - side), place[1] * (height - side)])
        grid = None
        if self.config.sharpness == "equal":
            numbers = rand_cpu(1, 1, generator=generator)
            grid = matched_resolution(boxes[:, None, 2:] * side, self.config.crop_size, numbers)[0]
        mirrored = flip < self.flip
        # A crop of the mirrored image is the mirrored crop of the image, from the other side.
        inside = (geometry.hflip_boxes(boxes) if mirrored else boxes) * side
        with private_rng(key):
            crops = []
            for box in inside:
                box[:2] += frame
                crop = crop_image(image, box, self.config.crop_size, grid)
                crops.append(self._finish(v2.functional.hflip(crop) if mirrored else crop))
        return {"crops": torch.stack(crops), "boxes": boxes}

    def _finish(self, crop: Any) -> Tensor:
        crop = self._color_transform(crop)
        if not isinstance(crop, Tensor):
            crop = v2.functional.to_dtype(v2.functional.pil_to_tensor(crop), scale=True)
        return self.normalize(crop) if self.normalize else crop


class SPTransform:
    """A host's transform with SP's crops beside its views, which stay bit for bit what they were.

    Args:
        transform: of the host: from an image to views of any form.
        config: settings of SP. An `SPCallback` that finds this transform in the data set hands
            it its own.
        **settings: settings by name, over those of ``config``.

    >>> both = SPTransform(lambda image: [image, image], size=16)
    >>> sample = both(torch.rand(3, 32, 32))
    >>> len(sample["views"]), sample["sp"]["crops"].shape
    (2, torch.Size([4, 3, 16, 16]))
    """

    def __init__(
        self,
        transform: Callable[[Any], Any],
        config: SPConfig | Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        given = config.asdict() if isinstance(config, SPConfig) else dict(config or {})
        self.transform = transform
        self.crops = ImageCrops({**given, **settings}, find_normalize(transform))

    def set_config(self, config: SPConfig) -> None:
        """Take other settings; before any image is read."""
        self.crops.set_config(config)

    def __call__(self, image: Any) -> dict[str, Any]:
        key = self.crops.rng_key(image)  # before the host draws
        views = self.transform(image)
        self.crops.infer_view_size(views)
        return {"views": views, "sp": self.crops(image, key)}

    def __repr__(self) -> str:
        return f"SPTransform({self.transform!r})"


def _side(views: Any) -> int:
    """Shorter side of the first view in what a transform gave, depth first."""
    while not isinstance(views, Tensor):
        views = next(iter(views.values())) if isinstance(views, Mapping) else views[0]
    return min(views.shape[-2:])


def _simclr(size: int) -> Callable[[Any], Any]:
    # SimCLR blurs views of 224 px with a sigma of 0.1 to 2 px and a kernel of a tenth of the side.
    kernel = max(3, size // 10 // 2 * 2 + 1)
    blur = v2.GaussianBlur(kernel, (0.1, max(0.2, 2.0 * size / 224)))
    colours = v2.RandomApply([v2.ColorJitter(*_JITTER)], p=0.8)
    chain: Callable[[Any], Any] = v2.Compose(
        [colours, v2.RandomGrayscale(p=0.2), v2.RandomApply([blur], p=0.5)]
    )
    return chain


def find_normalize(transform: Any) -> Callable[[Tensor], Tensor] | None:
    """The first ``Normalize`` of torchvision inside a transform, however deep; None: none.

    >>> from torchvision import transforms as v1
    >>> find_normalize([v1.Compose([v1.ToTensor(), v1.Normalize((0.5,), (0.2,))])])
    Normalize(mean=(0.5,), std=(0.2,))
    """
    seen: set[int] = set()
    waiting = [transform]
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if type(part).__name__ == "Normalize" and hasattr(part, "mean") and hasattr(part, "std"):
            found: Callable[[Tensor], Tensor] = part
            return found
        if isinstance(part, (list, tuple)):
            waiting.extend(part)
        elif isinstance(part, Mapping):
            waiting.extend(part.values())
        elif hasattr(part, "__dict__"):
            waiting.extend(vars(part).values())
    return None
