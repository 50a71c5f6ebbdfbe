"""SPCrops: crops of the original image, with the host's views, which stay the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import mm_configs
import numpy as np
import pytest
import torch
from mm_rng import draw_from_each, seed
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from sp_mmselfsup import SPCrops
from sp_mmselfsup.batch import crops_from_samples
from sp_mmselfsup.crops_transform import _to_pil

from sp_plugin import ConfigError, Crops
from sp_plugin.crops.batch_colors import color_crops
from sp_plugin.isolation import make_generator

IMAGE_SOURCE = {"weight": 1.0, "warmup_fraction": 0.0, "source": "image"}
LOAD = {"type": "LoadImageFromFile"}
PACK = {"type": "PackSelfSupInputs", "meta_keys": ["img_path"]}
VIEWS = [
    {"type": "RandomResizedCrop", "size": 64, "backend": "pillow"},
    {"type": "RandomFlip", "prob": 0.5},
]


@pytest.fixture(scope="module", autouse=True)
def scope() -> Any:
    import mmselfsup.datasets  # noqa: F401  # registers the transforms

    with DefaultScope.overwrite_default_scope("mmselfsup"):
        yield


def packed_sample(image_info: dict[str, Any], number: int = 0, **sp: Any) -> Any:
    seed(number)
    return SPCrops([LOAD, *VIEWS, PACK], sp)(dict(image_info))


def finished(crops: Any) -> Any:
    """Crops as SP sees them."""
    return crops if isinstance(crops, Crops) else color_crops(crops, make_generator(0))


def test_views_and_host_rng_are_unchanged(image_info: Any) -> None:
    from mmengine.dataset import Compose

    seed(0)
    plain = Compose([LOAD, *VIEWS, PACK])(dict(image_info))
    drawn = draw_from_each()
    seed(0)
    wrapped = SPCrops([LOAD, *VIEWS, PACK], IMAGE_SOURCE)(dict(image_info))
    assert torch.equal(wrapped["inputs"][0], plain["inputs"][0])
    assert drawn == draw_from_each()


def test_loaded_floats_give_the_same_crops(image_info: Any) -> None:
    samples = []
    for load in (LOAD, {**LOAD, "to_float32": True}):
        seed(0)
        views = {"type": "RandomResizedCrop", "size": 64}
        packed = SPCrops([load, views, PACK], IMAGE_SOURCE)(dict(image_info))
        samples.append(packed["data_samples"])
    assert torch.equal(samples[0].sp_crops, samples[1].sp_crops)
    assert torch.equal(samples[0].sp_boxes, samples[1].sp_boxes)


@pytest.mark.parametrize("dtype", (np.uint8, np.float32))
def test_arrays_become_images_of_their_mode(dtype: Any) -> None:
    blue = np.zeros((4, 6, 4), dtype)
    blue[..., 0] = 200
    for channels, mode, color in ((3, "RGB", (0, 0, 200)), (4, "RGBA", (0, 0, 200, 0))):
        image = _to_pil(blue[..., :channels])
        assert (image.mode, image.size, image.getpixel((0, 0))) == (mode, (6, 4), color)
    for grey in (blue[..., 0], blue[..., :1]):
        assert (_to_pil(grey).mode, _to_pil(grey).getpixel((0, 0))) == ("L", 200)


def test_crop_size_follows_view_size(image_info: Any) -> None:
    sample = packed_sample(image_info, **IMAGE_SOURCE)["data_samples"]
    assert sample.sp_crops.shape == (4, 3, 32, 32) and sample.sp_boxes.shape == (4, 4)
    assert sample.sp_crops.dtype == torch.uint8 and sample.sp_normalization.shape == (3, 3)


@pytest.mark.parametrize("reseed", (random.seed, np.random.seed, torch.manual_seed))
def test_crops_follow_each_host_generator(image_info: Any, reseed: Any) -> None:
    transform = SPCrops([LOAD, *VIEWS, PACK], IMAGE_SOURCE)
    seed(0)
    first = transform(dict(image_info))["data_samples"].sp_boxes
    seed(0)
    reseed(1)
    assert not torch.equal(first, transform(dict(image_info))["data_samples"].sp_boxes)


def test_crops_depend_on_host_rng_only(image_info: Any) -> None:
    boxes = [
        packed_sample(image_info, seed, **IMAGE_SOURCE)["data_samples"].sp_boxes
        for seed in (0, 0, 1)
    ]
    assert torch.equal(boxes[0], boxes[1]) and not torch.equal(boxes[0], boxes[2])


def test_crops_use_model_channel_order(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sp_plugin.crops.batch_colors.recolor", lambda images, _: images)
    red = Image.fromarray(np.full((40, 40, 3), (200, 10, 10), np.uint8))
    red.save(tmp_path / "red.png")
    transform = SPCrops([LOAD, PACK], IMAGE_SOURCE)
    sample = transform({"img_path": str(tmp_path / "red.png")})["data_samples"]
    rgb = sample.sp_crops.float().mean(dim=(0, 2, 3))
    assert torch.allclose(rgb, torch.tensor([200.0, 10.0, 10.0]), atol=1)

    from mmselfsup.models.utils import SelfSupDataPreprocessor

    for swap, first in ((True, 200), (False, 10)):  # the backbone takes RGB, or BGR as loaded
        preprocessor = SelfSupDataPreprocessor(mean=(5.0,) * 3, std=(2.0,) * 3, bgr_to_rgb=swap)
        crops = finished(crops_from_samples([sample, sample], preprocessor))
        assert crops.pixels.shape[0] == 8 and crops.boxes.shape == (4, 2, 4)
        assert float(crops.pixels[:, 0].mean()) == pytest.approx((first - 5) / 2, abs=0.5)


@pytest.mark.parametrize("name", ("byol", "mae"))
def test_sp_trains_and_weight_0_is_baseline(train: Any, name: str) -> None:
    def with_crops(sp: dict[str, Any]) -> Any:
        def change(config: Config) -> None:
            pipeline = config.train_dataloader.dataset.pipeline
            wrapped = {"type": "SPCrops", "pipeline": pipeline, "sp": sp}
            config.train_dataloader.dataset.pipeline = [wrapped]

        return train(name, sp, change).model

    baseline = train(name).model.state_dict()
    off = with_crops({**IMAGE_SOURCE, "weight": 0}).state_dict()
    assert mm_configs.same(mm_configs.without_sp(off), dict(baseline))
    four = with_crops({**IMAGE_SOURCE, "num_crops": 4, "num_pairs": 2}).state_dict()
    assert not mm_configs.same(mm_configs.without_sp(four), dict(baseline))
    on = with_crops(IMAGE_SOURCE)
    assert on.sp.config.window == (0.5, 1.0)  # of an image, not of a view
    from_view = train(name, {**IMAGE_SOURCE, "source": "view"}).model.state_dict()
    trained = mm_configs.without_sp(on.state_dict())
    assert all(value.isfinite().all() for value in trained.values())
    assert not mm_configs.same(trained, dict(baseline))
    assert not mm_configs.same(trained, mm_configs.without_sp(from_view))


def test_batch_without_crops_is_refused(train: Any) -> None:
    with pytest.raises(ConfigError, match="source: got 'image', but no crops came with the data"):
        train("mae", IMAGE_SOURCE)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ([PACK], "SPCrops: the pipeline loads no image under the name 'img'"),
        ([LOAD], "SPCrops: the pipeline packs no 'data_samples'; end it with PackSelfSupInputs"),
    ],
)
def test_incomplete_pipeline_is_refused(image_info: Any, pipeline: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        SPCrops(pipeline, IMAGE_SOURCE)(dict(image_info))
    assert str(error.value) == message


def test_config_with_image_source_trains(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "_base_ = 'mmselfsup::selfsup/byol/byol_resnet50_8xb32-accum16-coslr-200e_in1k.py'\n"
        "custom_imports = dict(imports=['sp_mmselfsup'])\n"
        "sp = dict(weight=1.0, warmup_fraction=0.0, source='image')\n"
        "model = dict(_delete_=True, type='SPAlgorithm', algorithm={{_base_.model}}, sp=sp)\n"
        "train_dataloader = dict(dataset=dict(pipeline=[\n"
        "    dict(type='SPCrops', pipeline={{_base_.train_pipeline}}, sp=sp)]))\n"
    )
    config = mm_configs.shrink(Config.fromfile(path), data, tmp_path / "work")
    assert mm_configs.trained(config).iter == mm_configs.STEPS
