"""Images of other channels than RGB, and of other shapes, in a pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mm_configs import same, without_sp
from mm_rng import seed
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from sp_mmselfsup import SPCrops
from sp_mmselfsup.batch import crops_from_samples
from torch import Tensor

from sp_plugin.crops.batch_colors import color_crops
from sp_plugin.isolation import make_generator

PACK = {"type": "PackSelfSupInputs", "meta_keys": ["img_path"]}
IMAGE_SOURCE = {"weight": 1.0, "warmup_fraction": 0.0, "source": "image"}


@pytest.fixture(scope="module", autouse=True)
def scope() -> Any:
    import mmselfsup.datasets  # noqa: F401  # registers the transforms

    with DefaultScope.overwrite_default_scope("mmselfsup"):
        yield


@TRANSFORMS.register_module()
class LoadBands:
    """Bands (H, W, C) that follow from the file's name, each with a mean of its own."""

    def __init__(self, channels: int, size: tuple[int, int] = (48, 80)) -> None:
        self.channels, self.size = channels, size

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        rng = np.random.default_rng(list(results["img_path"].encode()))
        noise = rng.uniform(-1, 1, (*self.size, self.channels))
        image = (noise + 40 * np.arange(1, self.channels + 1)).round()
        return {**results, "img": image.astype(np.uint8 if self.channels < 6 else np.uint16)}


def take_bands(config: Config) -> None:
    """Read 13 bands, crop and flip them alone, and give the backbone as many channels."""
    view = [{"type": "RandomResizedCrop", "size": 32}, {"type": "RandomFlip", "prob": 0.5}]
    config.train_dataloader.dataset.pipeline = [
        {"type": "mmengine.LoadBands", "channels": 13},
        {"type": "MultiView", "num_views": 2, "transforms": [view]},
        PACK,
    ]
    config.model.data_preprocessor = {"mean": [280.0], "std": [150.0]}
    config.model.backbone.in_channels = 13


def preprocessor(**settings: Any) -> Any:
    from mmselfsup.models.utils import SelfSupDataPreprocessor

    return SelfSupDataPreprocessor(**settings)


@pytest.mark.parametrize("channels", (1, 2, 3, 4, 6, 13))
@pytest.mark.parametrize("normalize", ({}, {"mean": (9.0,), "std": (2.0,)}), ids=("plain", "norm"))
def test_crops_have_the_views_numbers(
    channels: int, normalize: dict[str, Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr("sp_plugin.crops.batch_colors.recolor", lambda images, _: images)
    transform = SPCrops([LoadBands(channels), PACK], IMAGE_SOURCE)
    seed(0)
    packed = transform({"img_path": "a"})
    assert packed["data_samples"].sp_crops.shape == (4, channels, 24, 24)
    process = preprocessor(**normalize)
    batch = {"inputs": [packed["inputs"][0][None]], "data_samples": [packed["data_samples"]]}
    views, _ = process(batch)
    crops = color_crops(crops_from_samples([packed["data_samples"]], process), make_generator(0))
    torch.testing.assert_close(
        crops.pixels.mean((0, 2, 3)), views[0].mean((0, 2, 3)), atol=1.0, rtol=0
    )


def test_crop_size_of_two_numbers() -> None:
    sp = Config({"sp": {**IMAGE_SOURCE, "crop_size": [8, 32]}}).sp
    packed = SPCrops([LoadBands(13), PACK], sp)({"img_path": "a"})
    assert packed["data_samples"].sp_crops.shape == (4, 13, 8, 32)


def test_bands_train_as_rgb_does(train: Any) -> None:
    def run(sp: dict[str, Any] | None = None) -> dict[str, Tensor]:
        state: dict[str, Tensor] = train("simclr", sp, take_bands).model.state_dict()
        return state

    baseline, off, on = run(), run({"weight": 0.0}), run({"weight": 1.0, "warmup_fraction": 0.0})
    assert baseline["backbone.conv1.weight"].shape[1] == 13
    assert same(without_sp(off), baseline) and not same(without_sp(on), baseline)
    assert all(torch.isfinite(value).all() for value in on.values())
