"""Images of other channels than RGB, and of other shapes, in a pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mm_rng import seed
from mmengine.config import Config
from mmengine.registry import DefaultScope
from sp_mmselfsup import SPCrops
from sp_mmselfsup.batch import crops_from_samples

PACK = {"type": "PackSelfSupInputs", "meta_keys": ["img_path"]}
IMAGE_SOURCE = {"weight": 1.0, "warmup_fraction": 0.0, "source": "image"}


@pytest.fixture(scope="module", autouse=True)
def scope() -> Any:
    import mmselfsup.datasets  # noqa: F401  # registers the transforms

    with DefaultScope.overwrite_default_scope("mmselfsup"):
        yield


class LoadBands:
    """Bands (H, W, C) that follow from the file's name, each with a mean of its own."""

    def __init__(self, channels: int, size: tuple[int, int] = (48, 80)) -> None:
        self.channels, self.size = channels, size

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        rng = np.random.default_rng(len(results["img_path"]))
        noise = rng.uniform(-1, 1, (*self.size, self.channels))
        image = (noise + 40 * np.arange(1, self.channels + 1)).round()
        return {**results, "img": image.astype(np.uint8 if self.channels < 6 else np.uint16)}


def preprocessor(**settings: Any) -> Any:
    from mmselfsup.models.utils import SelfSupDataPreprocessor

    return SelfSupDataPreprocessor(**settings)


@pytest.mark.parametrize("channels", (1, 2, 3, 4, 6, 13))
@pytest.mark.parametrize("normalize", ({}, {"mean": (9.0,), "std": (2.0,)}), ids=("plain", "norm"))
def test_crops_have_the_views_numbers(channels: int, normalize: dict[str, Any]) -> None:
    transform = SPCrops([LoadBands(channels), PACK], IMAGE_SOURCE)
    transform.crops.color_transform = lambda crop: crop
    seed(0)
    packed = transform({"img_path": "a"})
    assert packed["data_samples"].sp_crops.shape == (4, channels, 24, 24)
    process = preprocessor(**normalize)
    batch = {"inputs": [packed["inputs"][0][None]], "data_samples": [packed["data_samples"]]}
    views, _ = process(batch)
    crops = crops_from_samples([packed["data_samples"]], process).pixels
    torch.testing.assert_close(crops.mean((0, 2, 3)), views[0].mean((0, 2, 3)), atol=1.0, rtol=0)


def test_crop_size_of_two_numbers() -> None:
    sp = Config({"sp": {**IMAGE_SOURCE, "crop_size": [8, 32]}}).sp
    packed = SPCrops([LoadBands(13), PACK], sp)({"img_path": "a"})
    assert packed["data_samples"].sp_crops.shape == (4, 13, 8, 32)
