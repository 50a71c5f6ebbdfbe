"""Images and views that are not square: boxes, crops, and each kind of backbone in a plain loop."""

from __future__ import annotations

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_backbones import BACKBONES
from plain_loop import batches, check_training
from torch import nn

from sp_plugin import ConfigError, SpatialPrediction, SPConfig, SPSession
from sp_plugin.crops.boxes import cxcywh_to_xyxy, paired_iou
from sp_plugin.crops.resize import crop_resize, matched_resolution
from sp_plugin.crops.transform import SPTransform
from sp_plugin.features.extraction import extract_features
from sp_plugin.features.input_size import find_input_size
from sp_plugin.sizes import height_and_width

sides = st.integers(8, 1024)
sizes = st.tuples(sides, sides)
crop_sizes = st.sampled_from([32, (32, 128), (128, 32), (24, 40)])


@given(sizes, crop_sizes, st.floats(0.05, 0.5), st.floats(0.5, 1), st.integers(2, 5))
def test_boxes_have_the_crops_shape(frame, crop_size, least, window, num_crops):
    config = SPConfig(
        crop_size=crop_size, crop_scale=(least, 0.5), crop_ratio=(0.8, 1.25),
        window=(window, 1), max_iou=1.0, num_crops=num_crops,
    )  # fmt: skip
    boxes = config.resolve(frame).build_sampler(frame)(16, torch.Generator().manual_seed(0))
    edges = cxcywh_to_xyxy(boxes)
    assert edges.min() >= -1e-5 and edges.max() <= 1 + 1e-5
    (height, width), (rows, columns) = frame, height_and_width(crop_size)
    ratio = boxes[..., 2] * width / (boxes[..., 3] * height) / (columns / rows)
    assert ratio.min() > 0.79 and ratio.max() < 1.26
    largest = min(width / columns, height / rows) ** 2 * columns * rows
    area = boxes[..., 2] * boxes[..., 3] * width * height / largest
    assert area.min() > least * window**2 * 0.99 and area.max() < 0.51


@given(sizes, st.integers(0, 9))
def test_axes_are_treated_alike(frame, seed):
    """The boxes of a frame turned on its side are these boxes turned on their side."""
    config = SPConfig(crop_size=32, crop_ratio=(1, 1), max_iou=1.0)
    draws = config.resolve(32).build_sampler().draw_uniform(8, torch.Generator().manual_seed(seed))
    flip = draws._replace(
        window_centre=draws.window_centre.flip(1),
        first_two=draws.first_two[[0, 1, 3, 2]],
        extra_crops=draws.extra_crops[[0, 1, 3, 2]],
    )
    boxes = config.resolve(frame).build_sampler(frame).to_boxes(draws)
    turned = config.resolve(frame).build_sampler(frame[::-1]).to_boxes(flip)
    torch.testing.assert_close(boxes[..., [1, 0, 3, 2]], turned)


@pytest.mark.parametrize("frame", [(96, 256), (128, 1024), (256, 96)])
def test_overlap_is_limited_on_long_frames(frame):
    a, b = (
        SPConfig(num_crops=2)
        .resolve(frame)
        .build_sampler(frame)(256, torch.Generator().manual_seed(0))
    )
    assert (paired_iou(a, b) <= 0.1 + 1e-5).all()
    long_axis = int(frame[0] > frame[1])
    centres = torch.cat([a, b])[:, long_axis]
    assert centres.min() < 0.15 and centres.max() > 0.85  # anywhere along the frame


@pytest.mark.parametrize("crop_size", [16, (8, 32), (32, 8)])
@pytest.mark.parametrize("frame", [(48, 128), (64, 256), (300, 90)])
@pytest.mark.parametrize("sharpness", ["equal", "native"])
def test_crops_are_not_distorted(frame, crop_size, sharpness):
    """On ramps of one grey level for each pixel both axes rise alike in the crops."""
    height, width = frame
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    images = torch.stack([x, y]).float().expand(8, 2, height, width)
    config = SPConfig(
        crop_size=crop_size, sharpness=sharpness, crop_ratio=(1, 1), crop_scale=(0.5, 0.9)
    )
    sp = SpatialPrediction(8, config)
    boxes, crops = sp.sample_crops(images, torch.Generator().manual_seed(0))
    rows, columns = height_and_width(crop_size)
    assert crops.shape == (8 * len(boxes), 2, rows, columns)
    inner = crops[..., rows // 4 : -rows // 4, columns // 4 : -columns // 4]
    rise_x = inner[:, 0].diff(dim=2).mean((1, 2))
    rise_y = inner[:, 1].diff(dim=1).mean((1, 2))
    torch.testing.assert_close(rise_x, rise_y, rtol=0.1, atol=0)
    centres = crops.mean((2, 3)).unflatten(0, boxes.shape[:2]) + 0.5
    torch.testing.assert_close(
        centres, boxes[..., :2] * torch.tensor([width, height]), rtol=0.02, atol=1.0
    )


@pytest.mark.parametrize("frame", [(40, 60), (120, 90)])
@pytest.mark.parametrize("size", [(12, 30), (30, 12)])
def test_resize_of_each_axis(frame, size):
    """Either axis equals that of a square resize, on every path of the resize."""
    images = torch.rand(4, 3, *frame)
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.4, 0.6, 0.3, 0.31]] * 2)
    grid = matched_resolution(boxes[None, :, 2:] * 50, size, torch.full((4, 1), 0.5))
    for resolution in (None, grid):
        crops = crop_resize(images, boxes, size, resolution)
        rows = crop_resize(images.mean(3, keepdim=True).expand(-1, -1, -1, 8), boxes, size)
        assert crops.shape[-2:] == size and rows.shape[-2:] == size
        ones = crop_resize(torch.ones_like(images), boxes, size, resolution)
        torch.testing.assert_close(ones, torch.ones_like(ones))


# Views, and the crops that each kind of backbone gets.
SHAPES = [(32, 96), pytest.param((64, 32), marks=pytest.mark.slow)]
FIXED = ("ViT, fixed size", "Swin, fixed size")


@pytest.mark.parametrize("size", SHAPES, ids=str)
@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_trains(name, size):
    session = check_training(BACKBONES[name](2, size), batches(2, size))
    square = 32 if name == "ConvNeXt" else 16
    assert session.sp.config.crop_size == (size if name in FIXED else square)


class Tokens(nn.Module):
    """Class token, two registers, then patches; without any declaration."""

    def __init__(self, is_fixed: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(5, 8, 8, stride=8)
        self.size = (32, 96) if is_fixed else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.size in (None, x.shape[-2:])
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([torch.full_like(tokens[:, :3], 99.0), tokens], 1)


class Map(nn.Module):
    """Features (B, H, W, C) of images that need not be square."""

    def __init__(self, is_fixed: bool) -> None:
        super().__init__()
        self.net = nn.Conv2d(5, 24, 4, stride=4)
        self.size = (32, 96) if is_fixed else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.size in (None, x.shape[-2:])
        return self.net(x).permute(0, 2, 3, 1)


@pytest.mark.parametrize("is_fixed", [True, False], ids=["fixed", "any size"])
def test_layout_of_other_shapes(is_fixed):
    images = torch.rand(2, 5, 32, 96)
    for net, expected in (
        (tokens := Tokens(is_fixed), lambda: tokens.patches(images).mean((2, 3))),
        (other := Map(is_fixed), lambda: other.net(images).mean((2, 3))),
        (conv := nn.Conv2d(5, 32, 3), lambda: conv(images).mean((2, 3))),
    ):
        layout = find_input_size(net, (32, 96)).layout
        torch.testing.assert_close(extract_features(net, images, layout=layout), expected())


def test_views_size_is_tried_if_not_square():
    net = Tokens(is_fixed=True)
    images = torch.rand(2, 5, 32, 96)
    sp = SpatialPrediction.from_backbone(net, images)
    assert sp.config.crop_size == (32, 96)
    assert sp(net, images, step=1).loss.isfinite()
    with pytest.raises(ConfigError, match=r"^backbone: Tokens takes no crops of 96 px"):
        SPSession(net)
    assert SPSession(net, crop_size=(32, 96)).sp.config.crop_size == (32, 96)


def test_pair_of_equal_sides_is_a_square():
    assert SPConfig(crop_size=[32, 32]).crop_size == 32
    assert SPConfig.from_dict({"crop_size": [32, 128]}).crop_size == (32, 128)


@pytest.mark.parametrize("crop_size", [16, (8, 32)])
def test_targets_have_unit_std_on_long_views(crop_size):
    sp = SpatialPrediction.from_backbone(
        nn.Conv2d(3, 8, 3), torch.rand(2, 3, 32, 192), SPConfig(crop_size=crop_size)
    )
    boxes = sp.sample_crops(torch.rand(4096, 3, 2, 12), torch.Generator().manual_seed(5)).boxes
    std = sp.targets.encode(boxes[0], boxes[1]).std(dim=0)
    torch.testing.assert_close(std, torch.ones(3), rtol=0.05, atol=0)


@pytest.mark.parametrize("size", [(32, 32), (32, 128)])
def test_reset_restores_head_and_target_std(size):
    sp = SpatialPrediction.from_backbone(nn.Conv2d(3, 8, 3), torch.rand(2, 3, *size))
    expected = {name: value.clone() for name, value in sp.state_dict().items()}
    sp._apply(lambda tensor: torch.full_like(tensor, torch.nan))
    assert all(map(torch.equal, sp.reset_parameters().state_dict().values(), expected.values()))


@pytest.mark.parametrize("size", [(160, 800), (800, 160), (256, 256)])
def test_image_source_frame_has_crops_shape(size):
    """Crops of the original image, with a frame of the crops' shape: nothing is stretched."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([x, y, x, y, y]).float()
    transform = SPTransform(
        lambda image: image,
        color_transform=lambda crop: crop,
        crop_size=(8, 32),
        crop_ratio=(1, 1),
        sharpness="native",
    )
    transform.crops.flip = 0.0
    for crop in transform(image)["sp"]["crops"]:
        assert crop.shape == (5, 8, 32)
        inner = crop[:, 2:-2, 8:-8]
        torch.testing.assert_close(
            inner[0].diff(dim=1).mean(), inner[1].diff(dim=0).mean(), rtol=0.1, atol=0
        )


def test_stretched_crops_are_noted(caplog):
    net = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, img_size=(32, 64), patch_size=8, embed_dim=24,
        depth=1, num_heads=2,
    )  # fmt: skip
    for crop_size in (16, [32, 64]):
        session = SPSession(net, source="image", weight=0)
        sample = SPTransform(lambda image: image, crop_size=crop_size)(torch.rand(3, 32, 64))
        batch = torch.utils.data.default_collate([sample] * 2)
        caplog.clear()
        session(batch)
        lines = [record.getMessage() for record in caplog.records if "stretch" in record.message]
        assert bool(lines) == (crop_size == 16)
    assert session.sp.config.crop_size == (32, 64)


@pytest.mark.parametrize("num_crops", [2, 4])
def test_crops_of_other_settings_are_noted(caplog, num_crops: int):
    session = SPSession(nn.Conv2d(3, 8, 3), source="image", weight=0)
    transform = SPTransform(lambda image: image, num_crops=num_crops)
    batch = torch.utils.data.default_collate([transform(torch.rand(3, 32, 32))] * 2)
    session(batch)
    assert ("brings 2 crops of an image, where num_crops is 4" in caplog.text) == (num_crops == 2)
