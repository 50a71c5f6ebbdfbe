"""SPCrops: crops of the original image, added to the samples of the baseline's pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from sp_mmselfsup.batch import COLOR_CHANNELS
from sp_plugin import ConfigError

__all__ = ["SPCrops", "packed_sample"]


class SPCrops:
    """The baseline's pipeline, with crops of the image that it loads, for ``source="image"``.

    The pipeline runs as it is, with the same random draws. Its ``data_samples`` gain ``sp_crops``
    (k, C, h, w), RGB of 8 bits or other channels as they are loaded, ``sp_boxes`` (k, 4),
    (cx, cy, w, h) as fractions of a frame of the crops' shape in the image, and
    ``sp_normalization`` (3, C), as the crops get their colours on the device
    (`sp_plugin.structures.UncoloredCrops`). In a config it replaces the pipeline::

        pipeline=[dict(type="SPCrops", pipeline={{_base_.train_pipeline}}, sp=sp)]

    Args:
        pipeline: transforms of the baseline: the first ones load ``img``, the last one packs.
        sp: settings of SP, the same as those of `SPAlgorithm`.

    Raises:
        ConfigError: a bad setting; when called: a pipeline that loads no image, or that packs
            no ``data_samples``.

    >>> SPCrops(pipeline=[], sp=dict(soucre="image"))
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: soucre: no such setting of SP; did you mean 'source'?
    """

    def __init__(self, pipeline: list[Any], sp: dict[str, Any] | None = None) -> None:
        from sp_plugin.crops.transform import ImageCrops  # needs torchvision, slow to import

        self.crops = ImageCrops(sp)
        self.pipeline = Compose(pipeline)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        image = key = None
        packed: Any = results
        for transform in self.pipeline.transforms:
            packed = transform(packed)
            if packed is None:  # the pipeline skips this image
                return None
            if image is None and "img" in packed:
                image = _to_pil(packed["img"])
                key = self.crops.rng_key(image)  # before the pipeline draws
        if image is None:
            raise ConfigError("SPCrops: the pipeline loads no image under the name 'img'")
        sample = packed_sample(packed, "SPCrops")
        self.crops.infer_view_size(packed["inputs"], image)
        for name, value in self.crops(image, key).items():
            setattr(sample, f"sp_{name}", value)
        return packed

    def __repr__(self) -> str:
        return f"SPCrops({self.pipeline!r})"


# In MMEngine's own registry, which those of both frameworks fall back to.
TRANSFORMS.register_module(module=SPCrops)


def packed_sample(packed: dict[str, Any], transform: str) -> Any:
    """Data sample in the output of a pipeline.

    Raises:
        ConfigError: there is none; the line names the ``transform`` that needs it.
    """
    if "data_samples" not in packed:
        raise ConfigError(
            f"{transform}: the pipeline packs no 'data_samples'; end it with PackSelfSupInputs"
        )
    return packed["data_samples"]


def _to_pil(image: Any) -> Any:
    """PIL image of what LoadImageFromFile returns: an array (H, W), or (H, W, C) in BGR.

    ``to_float32`` keeps the numbers from 0 to 255. Deeper ones stay an array, and so do images of
    other channels, whose numbers stay as the views have them.
    """
    from PIL import Image

    if not isinstance(image, np.ndarray):
        return image
    if image.ndim == 3 and image.shape[2] not in COLOR_CHANNELS:
        return image.astype(np.float32)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    elif image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    if image.dtype.kind == "f" and image.min() >= 0 and image.max() <= 255:
        image = image.round().astype(np.uint8)
    if image.dtype != np.uint8:
        return image
    return Image.fromarray(np.ascontiguousarray(image))
