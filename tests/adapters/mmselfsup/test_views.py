"""SPViews: where each view of the host lies in the picture; the views stay what they were."""

from __future__ import annotations

import copy
import importlib
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mm_hosts
import mmcv
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from sp_mmselfsup import SPViews, repairs

from sp_plugin import ConfigError

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
VIEWS = {"swav": 8, "mae": 1}  # else two
LOAD, PACK = {"type": "LoadImageFromFile"}, {"type": "PackSelfSupInputs"}


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    for host in ("mmpretrain", "mmselfsup"):
        importlib.import_module(f"{host}.datasets")  # registers its transforms
    if repairs.hue_overflows(None):  # as when an algorithm is built
        repairs.mend_hue(None)


@pytest.fixture(scope="module", params=CONFIGS, ids="-".join)
def shipped(request: Any) -> Iterator[tuple[str, list[Any]]]:
    """A method's name and the pipeline of its shipped config, in the host's scope."""
    host, name = request.param
    with DefaultScope.overwrite_default_scope(host):
        config = mm_hosts.shipped(host, CONFIGS[request.param])
        yield name, config.train_dataloader.dataset.pipeline


@pytest.fixture
def picture(data: Path) -> dict[str, Any]:
    return {"img_path": str(data / "train" / "class0" / "0.png"), "gt_label": 0}


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # mmcv draws from it
    torch.manual_seed(number)


def one_of_each() -> tuple[float, ...]:
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002


def only_geometric(pipeline: list[Any]) -> list[Any]:
    """Without colours and blur, so that a view is its crop, to the pixel."""
    kept = []
    for step in copy.deepcopy(pipeline):
        if step["type"] == "MultiView":
            step["transforms"] = [only_geometric(view) for view in step["transforms"]]
        if step["type"] in GEOMETRIC or step["type"].startswith(("Load", "Pack")):
            kept.append(step)
    return kept


def crop_of(pipeline: list[Any], view: int) -> dict[str, Any]:
    """The settings of the RandomResizedCrop that made a view."""
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


def replayed(image: Any, box: torch.Tensor, flips: torch.Tensor, crop: dict[str, Any]) -> Any:
    """The view, cut out of the original picture anew by what was recorded, with mmcv."""
    height, width = image.shape[:2]
    cx, cy, w, h = (box.double() * torch.tensor([width, height] * 2)).tolist()
    edges = np.round([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).astype(int) - [0, 0, 1, 1]
    side = crop.get("size", crop.get("scale"))
    rest = {key: crop[key] for key in ("interpolation", "backend") if key in crop}
    view = mmcv.imresize(mmcv.imcrop(image, edges), (side, side), **rest)
    for sign, direction in zip(flips.tolist(), ("horizontal", "vertical"), strict=True):
        view = mmcv.imflip(view, direction) if sign < 0 else view
    return torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))


def as_list(inputs: Any) -> list[torch.Tensor]:
    return inputs if isinstance(inputs, list) else [inputs]


def test_views_and_what_the_host_draws_stay_what_they_were(shipped: Any, picture: Any) -> None:
    name, pipeline = shipped
    plain, ours = Compose(copy.deepcopy(pipeline)), SPViews(pipeline)
    for number in range(2):
        seed(number)
        theirs = as_list(plain(dict(picture))["inputs"])
        drawn = one_of_each()
        seed(number)
        packed = ours(dict(picture))
        assert drawn == one_of_each()
        views = as_list(packed["inputs"])
        assert len(views) == len(theirs) == VIEWS.get(name, 2)
        assert all(torch.equal(a, b) for a, b in zip(views, theirs, strict=True))


def test_boxes_and_flips_replay_to_the_views_themselves(shipped: Any, picture: Any) -> None:
    name, pipeline = shipped
    pipeline = only_geometric(pipeline)
    image = mmcv.imread(picture["img_path"])
    views = SPViews(pipeline)
    mirrored = set()
    for number in range(8):
        seed(number)
        packed = views(dict(picture))
        sample, made = packed["data_samples"], as_list(packed["inputs"])
        assert (
            sample.sp_boxes.shape == (VIEWS.get(name, 2), 4)
            and sample.sp_boxes.dtype == torch.float32
        )
        for index, view in enumerate(made):
            box, flips = sample.sp_boxes[index], sample.sp_flips[index]
            again = replayed(image, box, flips, crop_of(pipeline, index))
            assert torch.equal(again, view)
            mirrored.add(float(flips[0]))
    assert mirrored == {1.0, -1.0}


@pytest.mark.parametrize("host", ("mmselfsup", "mmpretrain"))
@pytest.mark.parametrize("workers", (0, 2))
def test_what_comes_through_a_loader_replays(host: str, workers: int, data: Path) -> None:
    config = mm_hosts.shipped(host, CONFIGS[host, "swav"])
    loader = config.train_dataloader
    pipeline = only_geometric(loader.dataset.pipeline)
    where = {"img_path": "train/"}
    loader.dataset.update(data_root=str(data), ann_file="meta/train.txt", data_prefix=where)
    loader.dataset.pipeline = [{"type": "SPViews", "pipeline": pipeline}]
    loader.update(batch_size=2, num_workers=workers, persistent_workers=False)
    with DefaultScope.overwrite_default_scope(host):
        batches = list(Runner.build_dataloader(loader, seed=0))
    seen = []
    for batch in batches:
        for row, sample in enumerate(batch["data_samples"]):
            image = mmcv.imread(sample.img_path)
            for index, views in enumerate(batch["inputs"]):
                box, flips = sample.sp_boxes[index], sample.sp_flips[index]
                again = replayed(image, box, flips, crop_of(pipeline, index))
                assert torch.equal(again, views[row])
                seen.append(tuple(box.tolist()))
    assert len(seen) == len(set(seen)) == 2 * mm_hosts.STEPS * 8


def test_it_goes_to_a_spawned_worker(picture: Any, shipped: Any) -> None:
    _, pipeline = shipped
    views = SPViews(pipeline)
    seed(0)
    here = views(dict(picture))
    seed(0)
    there = pickle.loads(pickle.dumps(views))(dict(picture))
    assert torch.equal(here["data_samples"].sp_boxes, there["data_samples"].sp_boxes)
    assert torch.equal(here["data_samples"].sp_flips, there["data_samples"].sp_flips)


STEPS = st.sampled_from(
    [
        {"type": "mmselfsup.RandomResizedCrop", "size": 60, "scale": (0.3, 1.0)},
        {"type": "mmcls.RandomResizedCrop", "scale": 60, "crop_ratio_range": (0.3, 1.0)},
        {"type": "mmpretrain.RandomResizedCrop", "scale": (50, 70), "crop_ratio_range": (0.3, 1.0)},
        {"type": "mmpretrain.EfficientNetRandomCrop", "scale": 64, "crop_ratio_range": (0.3, 1.0)},
        {"type": "mmselfsup.RandomCrop", "size": 40},
        {"type": "mmpretrain.RandomCrop", "crop_size": (40, 44)},
        {"type": "mmcv.CenterCrop", "crop_size": (48, 40)},
        {"type": "mmcv.Resize", "scale": (90, 64)},
        {"type": "mmcls.ResizeEdge", "scale": 72},
        {"type": "mmcv.RandomFlip", "prob": 0.5},
        {"type": "mmcv.RandomFlip", "prob": 0.9, "direction": ["vertical", "diagonal"]},
        {"type": "mmcv.RandomApply", "transforms": [{"type": "mmcv.RandomFlip", "prob": 1.0}]},
        {
            "type": "mmcv.RandomChoice",
            "transforms": [
                [{"type": "mmselfsup.RandomCrop", "size": 40}],
                [{"type": "mmcv.RandomFlip", "prob": 1.0, "direction": "vertical"}],
            ],
        },
    ]
)


class AsItIs:
    """Packs the picture as it is, floats and all."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        class Sample:
            pass

        return {"inputs": results["img"], "data_samples": Sample()}


@settings(deadline=None)
@given(st.lists(STEPS, max_size=5), st.integers(0, 2**31))
def test_any_chain_of_crops_flips_and_resizes_is_followed(steps: Any, number: int) -> None:
    """A picture of its own coordinates tells where each of its pixels came from."""
    y, x = np.mgrid[0:120, 0:160].astype(np.float32)
    image = np.stack([(x + 0.5) / 160, (y + 0.5) / 120, 0 * x], axis=-1)
    seed(number)
    with DefaultScope.overwrite_default_scope("mmselfsup"):
        packed = SPViews([*steps, AsItIs()])({"img": image})
    view, sample = packed["inputs"], packed["data_samples"]
    ((cx, cy, w, h),), ((across, down),) = sample.sp_boxes.tolist(), sample.sp_flips.tolist()
    rows, columns = view.mean(axis=1)[:, 1], view.mean(axis=0)[:, 0]
    assert middle_and_extent(columns) == pytest.approx((cx, across * w), abs=0.005)
    assert middle_and_extent(rows) == pytest.approx((cy, down * h), abs=0.005)


def middle_and_extent(line: Any) -> tuple[float, float]:
    """Of a line that rises evenly but for its ends, which a resize repeats."""
    first = len(line) // 4
    a, b = line[first], line[-1 - first]
    return (a + b) / 2, (b - a) / (len(line) - 1 - 2 * first) * len(line)


def boxes_of(picture: Any, *steps: Any, **settings: Any) -> torch.Tensor:
    pipeline = [LOAD, *steps, PACK]
    with DefaultScope.overwrite_default_scope("mmselfsup"):
        return SPViews(pipeline, **settings)(dict(picture))["data_samples"].sp_boxes


@pytest.mark.parametrize(
    "step",
    [
        {"type": "RandomRotation", "degrees": 30},
        {"type": "mmcls.Rotate", "angle": 30.0, "prob": 1.0},
        {"type": "mmcls.Shear", "magnitude": 0.3, "prob": 1.0},
        {"type": "mmcls.Translate", "magnitude": 0.3, "prob": 1.0},
        {"type": "Pad", "size": (400, 400)},
        {"type": "RandomCrop", "size": 200, "padding": 8},
        {"type": "mmcv.CenterCrop", "crop_size": 400, "auto_pad": True},
    ],
    ids=lambda step: step["type"],
)
def test_a_picture_that_is_moved_otherwise_has_no_box(step: Any, picture: Any) -> None:
    seed(0)
    assert boxes_of(picture, step).isnan().all()
    crop = {"type": "RandomResizedCrop", "size": 64}
    seed(0)
    assert boxes_of(picture, step, crop).isnan().all()  # and it does not come back


@pytest.mark.parametrize("name", ("Rotate", "Shear"))
def test_a_move_that_was_not_made_is_none(name: str, picture: Any) -> None:
    setting = {"angle": 30.0} if name == "Rotate" else {"magnitude": 0.3}
    step = {"type": f"mmcls.{name}", "prob": 0.0, **setting}
    assert boxes_of(picture, step).tolist() == [[0.5, 0.5, 1.0, 1.0]]


def mine(results: dict[str, Any]) -> dict[str, Any]:
    return {**results, "img": results["img"] // 2}


def test_a_transform_of_the_users_own_is_asked_about(picture: Any) -> None:
    with pytest.raises(ConfigError) as error:
        boxes_of(picture, mine)
    assert str(error.value) == (
        "SPViews: cannot tell how mine moves the picture; if it leaves each pixel in its place, "
        "say still=['mine']"
    )
    assert boxes_of(picture, mine, still=["mine"]).tolist() == [[0.5, 0.5, 1.0, 1.0]]


def test_a_subclass_is_its_host_until_it_moves_pictures_itself(picture: Any) -> None:
    from mmcv.transforms import RandomFlip

    class Named(RandomFlip):
        pass

    class Moves(RandomFlip):
        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            return {**results, "img": results["img"][::-1]}

    with DefaultScope.overwrite_default_scope("mmselfsup"):
        pipeline = [LOAD, Named(prob=1.0), PACK]
        sample = SPViews(pipeline)(dict(picture))["data_samples"]
    assert sample.sp_flips.tolist() == [[-1.0, 1.0]]
    with pytest.raises(ConfigError, match="SPViews: cannot tell how Moves moves the picture"):
        boxes_of(picture, Moves(prob=1.0))


def test_transforms_that_were_built_already_are_left_as_they_were(picture: Any) -> None:
    from mmcv.transforms import RandomApply
    from mmselfsup.datasets.transforms import RandomResizedCrop

    crop = RandomResizedCrop(size=64)
    built = RandomApply([crop], prob=1.0)
    before = dict(vars(crop))
    boxes_of(picture, built)
    assert vars(crop) == before and built.transforms.transforms == [crop]


def test_views_begin_where_the_picture_stood_that_they_are_made_of(picture: Any) -> None:
    flip = {"type": "RandomFlip", "prob": 1.0}
    views = {"type": "MultiView", "num_views": [1, 2], "transforms": [[], [flip]]}
    pipeline = [LOAD, flip, {"type": "mmcv.CenterCrop", "crop_size": (160, 256)}, views, PACK]
    with DefaultScope.overwrite_default_scope("mmselfsup"):
        sample = SPViews(pipeline)(dict(picture))["data_samples"]
    assert sample.sp_boxes.tolist() == [[0.5, 0.5, 0.5, 1.0]] * 3
    assert sample.sp_flips.tolist() == [[-1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]


def test_pictures_that_are_no_views_are_refused(picture: Any) -> None:
    with pytest.raises(ConfigError, match="SPViews: 9 pictures are made of 1 view"):
        boxes_of(picture, {"type": "Resize", "scale": 292}, {"type": "RandomPatchWithLabels"})


@pytest.mark.parametrize("host", ("mmselfsup", "mmpretrain"))
def test_boxes_drawn_on_a_blank_are_the_pipelines_own(host: str) -> None:
    """In [2, 6] views of SwAV: areas of 0.14 to 1, and of 0.05 to 0.14."""
    config = mm_hosts.shipped(host, CONFIGS[host, "swav"])
    with DefaultScope.overwrite_default_scope(host):
        views = SPViews(config.train_dataloader.dataset.pipeline)
    seed(0)
    before = one_of_each()
    seed(0)
    boxes = views.draw()
    assert one_of_each() == before
    assert boxes.shape == (128, 8, 4) and boxes.isfinite().all()
    area = boxes[..., 2] * boxes[..., 3]
    assert area[:, :2].min() > 0.13 and area[:, :2].max() > 0.9
    assert area[:, 2:].min() > 0.045 and area[:, 2:].max() < 0.15
    assert torch.equal(boxes, views.draw())
