"""SPViewBoxes: locations of the host's views, which stay the same."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mm_configs
import mmcv
import numpy as np
import pytest
import torch
from mm_rng import draw_from_each, seed
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from sp_mmselfsup import SPViewBoxes

CONFIGS = {
    ("mmselfsup", "swav"): "swav/swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py",
    ("mmselfsup", "simclr"): "simclr/simclr_resnet50_8xb32-coslr-200e_in1k.py",
    ("mmselfsup", "byol"): "byol/byol_resnet50_8xb32-accum16-coslr-200e_in1k.py",
    ("mmselfsup", "mocov1"): "mocov1/mocov1_resnet50_8xb32-steplr-200e_in1k.py",
    ("mmselfsup", "mocov2"): "mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py",
    ("mmselfsup", "simsiam"): "simsiam/simsiam_resnet50_8xb32-coslr-100e_in1k.py",
    ("mmselfsup", "densecl"): "densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py",
    ("mmselfsup", "barlowtwins"): "barlowtwins/barlowtwins_resnet50_8xb256-coslr-300e_in1k.py",
    ("mmselfsup", "mocov3"): "mocov3/mocov3_resnet50_8xb512-amp-coslr-100e_in1k.py",
    ("mmselfsup", "mae"): "mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py",
    ("mmpretrain", "swav"): "swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py",
    ("mmpretrain", "simclr"): "simclr/simclr_resnet50_8xb32-coslr-200e_in1k.py",
    ("mmpretrain", "byol"): "byol/byol_resnet50_16xb256-coslr-200e_in1k.py",
    ("mmpretrain", "mocov2"): "mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py",
    ("mmpretrain", "simsiam"): "simsiam/simsiam_resnet50_8xb32-coslr-100e_in1k.py",
    ("mmpretrain", "densecl"): "densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py",
    ("mmpretrain", "barlowtwins"): "barlowtwins/barlowtwins_resnet50_8xb256-coslr-300e_in1k.py",
    ("mmpretrain", "mocov3"): "mocov3/mocov3_resnet50_8xb512-amp-coslr-100e_in1k.py",
    ("mmpretrain", "mae"): "mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py",
}
GEOMETRIC = ("MultiView", "RandomResizedCrop", "RandomFlip")
NUM_VIEWS = {"swav": 8, "mae": 1}  # others: two
LOAD, PACK = {"type": "LoadImageFromFile"}, {"type": "PackSelfSupInputs"}

pytestmark = pytest.mark.usefixtures("transforms")


@pytest.fixture(scope="module", params=CONFIGS, ids="-".join)
def shipped(request: Any) -> Iterator[tuple[str, list[Any]]]:
    """A method's name and the pipeline of its shipped config, in the framework's scope."""
    framework, name = request.param
    with DefaultScope.overwrite_default_scope(framework):
        config = mm_configs.shipped(framework, CONFIGS[request.param])
        yield name, config.train_dataloader.dataset.pipeline


def only_geometric(pipeline: list[Any]) -> list[Any]:
    """Without color changes and blur, so that a view equals its crop pixel by pixel."""
    kept = []
    for step in copy.deepcopy(pipeline):
        if step["type"] == "MultiView":
            step["transforms"] = [only_geometric(view) for view in step["transforms"]]
        if step["type"] in GEOMETRIC or step["type"].startswith(("Load", "Pack")):
            kept.append(step)
    return kept


def crop_of(pipeline: list[Any], view: int) -> dict[str, Any]:
    """Settings of the RandomResizedCrop that made a view."""
    steps = pipeline
    for step in pipeline:
        if step["type"] == "MultiView":
            count = (
                step["num_views"] if isinstance(step["num_views"], list) else [step["num_views"]]
            )
            which = [index for index, views in enumerate(count) for _ in range(views)][view]
            steps = step["transforms"][which]
    (crop,) = [step for step in steps if step["type"] == "RandomResizedCrop"]
    return crop


def reproduce_view(image: Any, box: torch.Tensor, flips: torch.Tensor, crop: dict[str, Any]) -> Any:
    """The view, cropped again from the original image by mmcv, with the recorded location."""
    height, width = image.shape[:2]
    cx, cy, w, h = (box.double() * torch.tensor([width, height] * 2)).tolist()
    edges = np.round([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).astype(int) - [0, 0, 1, 1]
    side = crop.get("size", crop.get("scale"))
    options = {key: crop[key] for key in ("interpolation", "backend") if key in crop}
    view = mmcv.imresize(mmcv.imcrop(image, edges), (side, side), **options)
    for sign, direction in zip(flips.tolist(), ("horizontal", "vertical"), strict=True):
        view = mmcv.imflip(view, direction) if sign < 0 else view
    return torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))


def as_list(inputs: Any) -> list[torch.Tensor]:
    return inputs if isinstance(inputs, list) else [inputs]


def test_views_and_host_rng_are_unchanged(shipped: Any, image_info: Any) -> None:
    name, pipeline = shipped
    plain, wrapped = Compose(copy.deepcopy(pipeline)), SPViewBoxes(pipeline)
    for number in range(2):
        seed(number)
        plain_views = as_list(plain(dict(image_info))["inputs"])
        drawn = draw_from_each()
        seed(number)
        packed = wrapped(dict(image_info))
        assert drawn == draw_from_each()
        views = as_list(packed["inputs"])
        assert len(views) == len(plain_views) == NUM_VIEWS.get(name, 2)
        assert all(torch.equal(a, b) for a, b in zip(views, plain_views, strict=True))


def test_boxes_and_flips_reproduce_views(shipped: Any, image_info: Any) -> None:
    name, pipeline = shipped
    pipeline = only_geometric(pipeline)
    image = mmcv.imread(image_info["img_path"])
    views = SPViewBoxes(pipeline)
    flips_x = set()
    for number in range(8):
        seed(number)
        packed = views(dict(image_info))
        sample, made_views = packed["data_samples"], as_list(packed["inputs"])
        assert (
            sample.sp_boxes.shape == (NUM_VIEWS.get(name, 2), 4)
            and sample.sp_boxes.dtype == torch.float32
        )
        for index, view in enumerate(made_views):
            box, flips = sample.sp_boxes[index], sample.sp_flips[index]
            reproduced = reproduce_view(image, box, flips, crop_of(pipeline, index))
            assert torch.equal(reproduced, view)
            flips_x.add(float(flips[0]))
    assert flips_x == {1.0, -1.0}


@pytest.mark.parametrize("framework", ("mmselfsup", "mmpretrain"))
@pytest.mark.parametrize("workers", (0, 2))
def test_loader_samples_reproduce_views(framework: str, workers: int, data: Path) -> None:
    config = mm_configs.shipped(framework, CONFIGS[framework, "swav"])
    loader = config.train_dataloader
    pipeline = only_geometric(loader.dataset.pipeline)
    prefix = {"img_path": "train/"}
    loader.dataset.update(data_root=str(data), ann_file="meta/train.txt", data_prefix=prefix)
    loader.dataset.pipeline = [{"type": "SPViewBoxes", "pipeline": pipeline}]
    loader.update(batch_size=2, num_workers=workers, persistent_workers=False)
    with DefaultScope.overwrite_default_scope(framework):
        batches = list(Runner.build_dataloader(loader, seed=0))
    seen = []
    for batch in batches:
        for row, sample in enumerate(batch["data_samples"]):
            image = mmcv.imread(sample.img_path)
            for index, views in enumerate(batch["inputs"]):
                box, flips = sample.sp_boxes[index], sample.sp_flips[index]
                reproduced = reproduce_view(image, box, flips, crop_of(pipeline, index))
                assert torch.equal(reproduced, views[row])
                seen.append(tuple(box.tolist()))
    assert len(seen) == len(set(seen)) == 2 * mm_configs.STEPS * 8


def test_transform_pickles_for_workers(image_info: Any, shipped: Any) -> None:
    _, pipeline = shipped
    views = SPViewBoxes(pipeline)
    seed(0)
    original = views(dict(image_info))
    seed(0)
    unpickled = pickle.loads(pickle.dumps(views))(dict(image_info))
    assert torch.equal(original["data_samples"].sp_boxes, unpickled["data_samples"].sp_boxes)
    assert torch.equal(original["data_samples"].sp_flips, unpickled["data_samples"].sp_flips)


def test_multi_view_starts_at_input_location(image_info: Any) -> None:
    flip = {"type": "RandomFlip", "prob": 1.0}
    views = {"type": "MultiView", "num_views": [1, 2], "transforms": [[], [flip]]}
    pipeline = [LOAD, flip, {"type": "mmcv.CenterCrop", "crop_size": (160, 256)}, views, PACK]
    with DefaultScope.overwrite_default_scope("mmselfsup"):
        sample = SPViewBoxes(pipeline)(dict(image_info))["data_samples"]
    assert sample.sp_boxes.tolist() == [[0.5, 0.5, 0.5, 1.0]] * 3
    assert sample.sp_flips.tolist() == [[-1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("framework", ("mmselfsup", "mmpretrain"))
def test_blank_image_boxes_match_pipeline(framework: str) -> None:
    """In [2, 6] views of SwAV: areas of 0.14 to 1, and of 0.05 to 0.14."""
    config = mm_configs.shipped(framework, CONFIGS[framework, "swav"])
    with DefaultScope.overwrite_default_scope(framework):
        views = SPViewBoxes(config.train_dataloader.dataset.pipeline)
    seed(0)
    before = draw_from_each()
    seed(0)
    boxes = views.sample_boxes()
    assert draw_from_each() == before
    assert boxes.shape == (128, 8, 4) and boxes.isfinite().all()
    area = boxes[..., 2] * boxes[..., 3]
    assert area[:, :2].min() > 0.13 and area[:, :2].max() > 0.9
    assert area[:, 2:].min() > 0.045 and area[:, 2:].max() < 0.15
    assert torch.equal(boxes, views.sample_boxes())
