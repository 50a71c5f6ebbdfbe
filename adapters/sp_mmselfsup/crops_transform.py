"""SPCrops: crops of the original image, beside what the host's own pipeline makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from sp_plugin import ConfigError


class SPCrops:
    """The host's pipeline with crops of the image that it loads, for ``source="image"``.

    The pipeline runs as it is and draws what it would have drawn; its result's ``data_samples``
    gain ``sp_crops`` (k, 3, S, S), RGB in [0, 1], and ``sp_boxes`` (k, 4). In a config it takes
    the pipeline's place::

        pipeline=[dict(type="SPCrops", pipeline={{_base_.train_pipeline}}, sp=sp)]

    Args:
        pipeline: the host's transforms: the first ones load ``img``, the last one packs.
        sp: the settings that `SPAlgorithm` has.

    Raises:
        ConfigError: a bad setting; when called: a pipeline that loads no image, or that packs
            no ``data_samples``.

    >>> SPCrops(pipeline=[], sp=dict(soucre="image"))
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: soucre: no such setting of SP; did you mean 'source'?
    """

    def __init__(self, pipeline: list[Any], sp: dict[str, Any] | None = None) -> None:
        from sp_plugin.crops.transform import ImageCrops  # torchvision, which is slow to import

        self.crops = ImageCrops(sp)
        self.pipeline = Compose(pipeline)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        image = key = None
        packed: Any = results
        for transform in self.pipeline.transforms:
            packed = transform(packed)
            if packed is None:  # an image that the host leaves out
                return None
            if image is None and "img" in packed:
                image = _image(packed["img"])
                key = self.crops.rng_key(image)
        if image is None:
            raise ConfigError("SPCrops: the pipeline loads no image under the name 'img'")
        return self._add(packed, image, key)

    def _add(self, packed: dict[str, Any], image: Any, key: int | None) -> dict[str, Any]:
        sample = sample_of(packed, "SPCrops")
        self.crops.infer_view_size(packed["inputs"])
        made = self.crops(image, key)
        sample.sp_crops = made["crops"]
        sample.sp_boxes = made["boxes"]
        return packed

    def __repr__(self) -> str:
        return f"SPCrops({self.pipeline!r})"


# In MMEngine's own registry, which those of both hosts ask for what they do not have themselves.
TRANSFORMS.register_module(module=SPCrops)


def sample_of(packed: dict[str, Any], wrapper: str) -> Any:
    """The data sample that a pipeline has packed, to which a ``wrapper`` of it adds.

    Raises:
        ConfigError: it has packed none.
    """
    if "data_samples" not in packed:
        raise ConfigError(
            f"{wrapper}: the pipeline packs no 'data_samples'; end it with PackSelfSupInputs"
        )
    return packed["data_samples"]


def _image(image: Any) -> Any:
    """A PIL image in RGB, from what LoadImageFromFile gives: an array (H, W, 3) in BGR."""
    from PIL import Image

    if not isinstance(image, np.ndarray):
        return image
    return Image.fromarray(np.ascontiguousarray(image[..., ::-1])).convert("RGB")
