"""How each kind of transform moves an image, as SPViewBoxes follows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_draws import seed
from mmengine.registry import DefaultScope
from PIL import Image
from sp_mmselfsup import SPViewBoxes

from sp_plugin import ConfigError

LOAD, PACK = {"type": "LoadImageFromFile"}, {"type": "PackSelfSupInputs"}

pytestmark = pytest.mark.usefixtures("transforms")


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
    """Packs the image as it is, floats and all."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        class Sample:
            pass

        return {"inputs": results["img"], "data_samples": Sample()}


@settings(deadline=None)
@given(st.lists(STEPS, max_size=5), st.integers(0, 2**31))
def test_any_chain_of_crops_flips_and_resizes_is_followed(steps: Any, number: int) -> None:
    """An image of its own coordinates tells where each of its pixels came from."""
    y, x = np.mgrid[0:120, 0:160].astype(np.float32)
    image = np.stack([(x + 0.5) / 160, (y + 0.5) / 120, 0 * x], axis=-1)
    seed(number)
    with DefaultScope.overwrite_default_scope("mmselfsup"):
        packed = SPViewBoxes([*steps, AsItIs()])({"img": image})
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


def boxes_of(image_info: Any, *steps: Any, **settings: Any) -> torch.Tensor:
    pipeline = [LOAD, *steps, PACK]
    with DefaultScope.overwrite_default_scope("mmselfsup"):
        return SPViewBoxes(pipeline, **settings)(dict(image_info))["data_samples"].sp_boxes


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
def test_a_picture_that_is_moved_otherwise_has_no_box(step: Any, image_info: Any) -> None:
    seed(0)
    assert boxes_of(image_info, step).isnan().all()
    crop = {"type": "RandomResizedCrop", "size": 64}
    seed(0)
    assert boxes_of(image_info, step, crop).isnan().all()  # and it does not come back


@pytest.mark.parametrize("name", ("Rotate", "Shear"))
def test_a_move_that_was_not_made_is_none(name: str, image_info: Any) -> None:
    setting = {"angle": 30.0} if name == "Rotate" else {"magnitude": 0.3}
    step = {"type": f"mmcls.{name}", "prob": 0.0, **setting}
    assert boxes_of(image_info, step).tolist() == [[0.5, 0.5, 1.0, 1.0]]


def mine(results: dict[str, Any]) -> dict[str, Any]:
    return {**results, "img": results["img"] // 2}


def test_a_transform_of_the_users_own_is_asked_about(image_info: Any) -> None:
    with pytest.raises(ConfigError) as error:
        boxes_of(image_info, mine)
    assert str(error.value) == (
        "SPViewBoxes: cannot tell how mine moves the image; if it leaves each pixel in its place, "
        "say still=['mine']"
    )
    assert boxes_of(image_info, mine, still=["mine"]).tolist() == [[0.5, 0.5, 1.0, 1.0]]


def test_a_subclass_is_its_host_until_it_moves_pictures_itself(image_info: Any) -> None:
    from mmcv.transforms import RandomFlip

    class Named(RandomFlip):
        pass

    class Moves(RandomFlip):
        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            return {**results, "img": results["img"][::-1]}

    with DefaultScope.overwrite_default_scope("mmselfsup"):
        pipeline = [LOAD, Named(prob=1.0), PACK]
        sample = SPViewBoxes(pipeline)(dict(image_info))["data_samples"]
    assert sample.sp_flips.tolist() == [[-1.0, 1.0]]
    with pytest.raises(ConfigError, match="SPViewBoxes: cannot tell how Moves moves the image"):
        boxes_of(image_info, Moves(prob=1.0))


def test_transforms_that_were_built_already_are_left_as_they_were(image_info: Any) -> None:
    from mmcv.transforms import RandomApply
    from mmselfsup.datasets.transforms import RandomResizedCrop

    crop = RandomResizedCrop(size=64)
    built = RandomApply([crop], prob=1.0)
    before = dict(vars(crop))
    boxes_of(image_info, built)
    assert vars(crop) == before and built.transforms.transforms == [crop]


def test_pictures_that_are_no_views_are_refused(image_info: Any) -> None:
    with pytest.raises(ConfigError, match="SPViewBoxes: 9 images are made of 1 view"):
        boxes_of(image_info, {"type": "Resize", "scale": 292}, {"type": "RandomPatchWithLabels"})


@pytest.mark.parametrize("wrapped", (False, True))
def test_transforms_of_torchvision_are_followed_too(image_info: Any, wrapped: bool) -> None:
    """By MMPretrain's names for them, ``torchvision/...``; padding by 8 px loses a view."""
    from torchvision.transforms import functional as F

    name = "mmpretrain.torchvision/"
    flip = {"type": f"{name}RandomHorizontalFlip", "p": 0.5}
    steps = [
        LOAD,
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "mmpretrain.NumpyToPIL", "to_rgb": True},
        {"type": f"{name}RandomResizedCrop", "size": 64, "antialias": True},
        {"type": "RandomApply", "transforms": [flip], "prob": 0.9} if wrapped else flip,
        {"type": f"{name}ToTensor"},
    ]
    with DefaultScope.overwrite_default_scope("mmselfsup"):
        views = SPViewBoxes([*steps, AsItIs()])
        padded = SPViewBoxes([*steps[:3], {"type": f"{name}Pad", "padding": 8}, AsItIs()])
    original = Image.open(image_info["img_path"]).convert("RGB")
    mirrored = set()
    for number in range(8):
        seed(number)
        packed = views(dict(image_info))
        ((cx, cy, w, h),) = packed["data_samples"].sp_boxes.double().tolist()
        box = [(cy - h / 2) * 256, (cx - w / 2) * 320, h * 256, w * 320]
        again = F.resized_crop(original, *map(round, box), [64, 64])
        ((across, _),) = packed["data_samples"].sp_flips.tolist()
        expected = F.to_tensor(F.hflip(again) if across < 0 else again)
        assert torch.equal(packed["inputs"], expected)
        mirrored.add(across)
    assert mirrored == {1.0, -1.0}
    assert padded(dict(image_info))["data_samples"].sp_boxes.isnan().all()
    assert views.sample_boxes().isfinite().all()
