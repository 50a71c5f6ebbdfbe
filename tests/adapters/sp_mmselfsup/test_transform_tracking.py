"""What each kind of transform does to the location of an image, by SPViewBoxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mm_rng import seed
from mmengine.registry import DefaultScope
from PIL import Image
from sp_mmselfsup import SPViewBoxes

from sp_plugin import ConfigError

LOAD, PACK = {"type": "LoadImageFromFile"}, {"type": "PackSelfSupInputs"}

pytestmark = pytest.mark.usefixtures("transforms")


STEPS = st.sampled_from(
    [
        {"type": "mmselfsup.RandomResizedCrop", "size": 240, "scale": (0.3, 1.0)},
        {"type": "mmcls.RandomResizedCrop", "scale": 240, "crop_ratio_range": (0.3, 1.0)},
        {
            "type": "mmpretrain.RandomResizedCrop",
            "scale": (200, 280),
            "crop_ratio_range": (0.3, 1.0),
        },
        {"type": "mmpretrain.EfficientNetRandomCrop", "scale": 256, "crop_ratio_range": (0.3, 1.0)},
        {"type": "mmselfsup.RandomCrop", "size": 160},
        {"type": "mmpretrain.RandomCrop", "crop_size": (160, 176)},
        {"type": "mmcv.CenterCrop", "crop_size": (192, 160)},
        {"type": "mmcv.Resize", "scale": (360, 256)},
        {"type": "mmcls.ResizeEdge", "scale": 288},
        {"type": "mmcv.RandomFlip", "prob": 0.5},
        {"type": "mmcv.RandomFlip", "prob": 0.9, "direction": ["vertical", "diagonal"]},
        {"type": "mmcv.RandomApply", "transforms": [{"type": "mmcv.RandomFlip", "prob": 1.0}]},
        {
            "type": "mmcv.RandomChoice",
            "transforms": [
                [{"type": "mmselfsup.RandomCrop", "size": 160}],
                [{"type": "mmcv.RandomFlip", "prob": 1.0, "direction": "vertical"}],
            ],
        },
    ]
)


class PackUnchanged:
    """Packs the image as it is, in floating point."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        class Sample:
            pass

        return {"inputs": results["img"], "data_samples": Sample()}


@given(st.lists(STEPS, max_size=5), st.integers(0, 2**31))
def test_chained_transforms_are_tracked(steps: Any, number: int) -> None:
    """The image contains its own coordinates, so each pixel shows where it came from."""
    y, x = np.mgrid[0:480, 0:640].astype(np.float32)
    image = np.stack([(x + 0.5) / 640, (y + 0.5) / 480, 0 * x], axis=-1)
    seed(number)
    with DefaultScope.overwrite_default_scope("mmselfsup"):
        packed = SPViewBoxes([*steps, PackUnchanged()])({"img": image})
    view, sample = packed["inputs"], packed["data_samples"]
    ((cx, cy, w, h),), ((flip_x, flip_y),) = sample.sp_boxes.tolist(), sample.sp_flips.tolist()
    rows, columns = view.mean(axis=1)[:, 1], view.mean(axis=0)[:, 0]
    assert center_and_extent(columns) == pytest.approx((cx, flip_x * w), abs=0.005)
    assert center_and_extent(rows) == pytest.approx((cy, flip_y * h), abs=0.005)


def center_and_extent(line: Any) -> tuple[float, float]:
    """Of values that rise linearly, except at the ends, which a resize repeats."""
    first = len(line) // 4
    a, b = line[first], line[-1 - first]
    return (a + b) / 2, (b - a) / (len(line) - 1 - 2 * first) * len(line)


def view_boxes_of(image_info: Any, *steps: Any, **settings: Any) -> torch.Tensor:
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
def test_unsupported_transform_gives_no_box(step: Any, image_info: Any) -> None:
    seed(0)
    assert view_boxes_of(image_info, step).isnan().all()
    crop = {"type": "RandomResizedCrop", "size": 64}
    seed(0)
    assert view_boxes_of(image_info, step, crop).isnan().all()  # and a crop of it neither


@pytest.mark.parametrize("name", ("Rotate", "Shear"))
def test_skipped_transform_keeps_full_box(name: str, image_info: Any) -> None:
    setting = {"angle": 30.0} if name == "Rotate" else {"magnitude": 0.3}
    step = {"type": f"mmcls.{name}", "prob": 0.0, **setting}
    assert view_boxes_of(image_info, step).tolist() == [[0.5, 0.5, 1.0, 1.0]]


def halve(results: dict[str, Any]) -> dict[str, Any]:
    return {**results, "img": results["img"] // 2}


def test_custom_transform_must_be_declared(image_info: Any) -> None:
    with pytest.raises(ConfigError) as error:
        view_boxes_of(image_info, halve)
    assert str(error.value) == (
        "SPViewBoxes: halve changes the image in an unknown way; if it leaves each pixel in place, "
        "set keep_pixels=['halve']"
    )
    assert view_boxes_of(image_info, halve, keep_pixels=["halve"]).tolist() == [
        [0.5, 0.5, 1.0, 1.0]
    ]


def test_subclass_override_is_refused(image_info: Any) -> None:
    from mmcv.transforms import RandomFlip

    class Renamed(RandomFlip):
        pass

    class Overridden(RandomFlip):
        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            return {**results, "img": results["img"][::-1]}

    with DefaultScope.overwrite_default_scope("mmselfsup"):
        pipeline = [LOAD, Renamed(prob=1.0), PACK]
        sample = SPViewBoxes(pipeline)(dict(image_info))["data_samples"]
    assert sample.sp_flips.tolist() == [[-1.0, 1.0]]
    with pytest.raises(
        ConfigError, match="SPViewBoxes: Overridden changes the image in an unknown way"
    ):
        view_boxes_of(image_info, Overridden(prob=1.0))


def test_built_transforms_stay_unchanged(image_info: Any) -> None:
    from mmcv.transforms import RandomApply
    from mmselfsup.datasets.transforms import RandomResizedCrop

    crop = RandomResizedCrop(size=64)
    built = RandomApply([crop], prob=1.0)
    before = dict(vars(crop))
    view_boxes_of(image_info, built)
    assert vars(crop) == before and built.transforms.transforms == [crop]


def test_non_view_images_are_refused(image_info: Any) -> None:
    with pytest.raises(
        ConfigError, match="SPViewBoxes: 9 images are packed, but 1 views were made"
    ):
        view_boxes_of(
            image_info, {"type": "Resize", "scale": 292}, {"type": "RandomPatchWithLabels"}
        )


@pytest.mark.parametrize("wrapped", (False, True))
def test_torchvision_transforms_are_tracked(image_info: Any, wrapped: bool) -> None:
    """By MMPretrain's names, ``torchvision/...``; a view padded by 8 px has no box."""
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
        views = SPViewBoxes([*steps, PackUnchanged()])
        padded = SPViewBoxes([*steps[:3], {"type": f"{name}Pad", "padding": 8}, PackUnchanged()])
    original = Image.open(image_info["img_path"]).convert("RGB")
    flips = set()
    for number in range(8):
        seed(number)
        packed = views(dict(image_info))
        ((cx, cy, w, h),) = packed["data_samples"].sp_boxes.double().tolist()
        box = [(cy - h / 2) * 256, (cx - w / 2) * 320, h * 256, w * 320]
        crop = F.resized_crop(original, *map(round, box), [64, 64])
        ((flip_x, _),) = packed["data_samples"].sp_flips.tolist()
        expected = F.to_tensor(F.hflip(crop) if flip_x < 0 else crop)
        assert torch.equal(packed["inputs"], expected)
        flips.add(flip_x)
    assert flips == {1.0, -1.0}
    assert padded(dict(image_info))["data_samples"].sp_boxes.isnan().all()
    assert views.sample_boxes().isfinite().all()
