"""crop_resize, against torchvision's resized_crop and torch's interpolate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resized_crop

from sp_plugin.crops import resize
from sp_plugin.crops.boxes import xyxy_to_cxcywh
from sp_plugin.crops.resize import crop_resize

_STEP = 1 / 255

# Frames (height, width) on either side of the size above which a CPU cuts the crops out first.
SMALL, LARGE = (48, 72), (240, 180)
each_frame = pytest.mark.parametrize("frame", [SMALL, LARGE, (112, 112), (113, 112)], ids=str)


def _boxes_from_edges(frame, edges) -> torch.Tensor:
    """Boxes (B, 4) from edges (left, top, right, bottom) in pixels."""
    height, width = frame
    scale = torch.tensor([width, height, width, height], dtype=torch.float64)
    return xyxy_to_cxcywh(torch.tensor(edges, dtype=torch.float64) / scale).float()


def _edges(frame) -> list[list[int]]:
    """Edges of the full frame, its corners, narrow and flat boxes, and a single pixel."""
    height, width = frame
    return [
        [0, 0, width, height],
        [0, 0, width // 3, height // 2],
        [width - 20, height - 41, width, height],
        [7, 3, 7 + 11, height - 2],
        [1, 8, width - 5, 8 + 13],
        [width // 2, height // 2, width // 2 + 1, height // 2 + 1],
        [10, 10, 42, 42],
    ]


def _torchvision(images, edges, size) -> torch.Tensor:
    crops = [
        resized_crop(image, top, left, bottom - top, right - left, [size, size], antialias=True)
        for image, (left, top, right, bottom) in zip(images, edges, strict=True)
    ]
    return torch.stack(crops)


@each_frame
@pytest.mark.parametrize("size", [16, 32, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_aligned_equals_torchvision(frame, size, channels):
    edges = _edges(frame)
    images = torch.rand(len(edges), channels, *frame)
    ours = crop_resize(images, _boxes_from_edges(frame, edges), size)
    assert (ours - _torchvision(images, edges, size)).abs().max() < _STEP


@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from([SMALL, (130, 110)]))
def test_random_aligned_equals_torchvision(data, seed, frame):
    def span(length):
        ends = st.lists(st.integers(0, length), min_size=2, max_size=2, unique=True)
        return data.draw(ends.map(sorted))

    (top, bottom), (left, right) = span(frame[0]), span(frame[1])
    size = data.draw(st.integers(4, 40))
    images = torch.rand(1, 3, *frame, generator=torch.Generator().manual_seed(seed))
    edges = [[left, top, right, bottom]]
    ours = crop_resize(images, _boxes_from_edges(frame, edges), size)
    assert (ours - _torchvision(images, edges, size)).abs().max() < _STEP


@each_frame
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(frame, dtype):
    edges = _edges(frame)
    images = torch.rand(len(edges), 3, *frame).to(dtype)
    ours = crop_resize(images, _boxes_from_edges(frame, edges), 32)
    assert ours.dtype == dtype
    assert torch.equal(
        ours, crop_resize(images.float(), _boxes_from_edges(frame, edges), 32).to(dtype)
    )


@each_frame
def test_memory_format_is_kept(frame):
    edges = _edges(frame)
    images, boxes = torch.rand(len(edges), 3, *frame), _boxes_from_edges(frame, edges)
    plain = crop_resize(images, boxes, 32)
    last = crop_resize(images.to(memory_format=torch.channels_last), boxes, 32)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, plain, atol=1e-6, rtol=0)
    strided = images.flip(3).transpose(2, 3).transpose(2, 3).flip(3)
    torch.testing.assert_close(crop_resize(strided, boxes, 32), plain, atol=1e-6, rtol=0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([SMALL, (130, 110)]), st.booleans())
def test_both_code_paths_agree(seed, frame, has_resolution):
    generator = torch.Generator().manual_seed(seed)
    images, boxes = torch.rand(6, 3, *frame, generator=generator), _random_boxes(6, generator)
    grid = torch.randint(1, 25, (6, 2), generator=generator).float() if has_resolution else None
    results = []
    before = resize._DENSE_PIXELS_ON_CPU
    try:
        for limit in (0, 10**9):
            resize._DENSE_PIXELS_ON_CPU = limit
            results.append(crop_resize(images, boxes, 24, grid))
    finally:
        resize._DENSE_PIXELS_ON_CPU = before
    torch.testing.assert_close(*results, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frame", [SMALL, (130, 110)])
@pytest.mark.parametrize("has_resolution", [False, True])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_boxes_of_an_image_are_cut_alike(frame, has_resolution, last):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, *frame, generator=generator)
    images = images.to(memory_format=torch.channels_last) if last else images
    boxes = torch.stack([_random_boxes(6, generator) for _ in range(3)])
    grid = torch.randint(1, 25, (6, 2), generator=generator) if has_resolution else None
    together = crop_resize(images, boxes, (24, 20), grid)
    alone = torch.cat([crop_resize(images, each, (24, 20), grid) for each in boxes])
    assert together.equal(alone) and together.stride() == alone.stride()


def _random_boxes(n: int, generator: torch.Generator, margin: float = 0.0) -> torch.Tensor:
    side = 0.05 + (0.95 - 2 * margin) * torch.rand(n, 2, generator=generator)
    room = 1 - side - 2 * margin
    return torch.cat([margin + side / 2 + room * torch.rand(n, 2, generator=generator), side], 1)


@given(st.integers(0, 2**32 - 1), st.sampled_from([SMALL, (130, 110)]), st.sampled_from([8, 33]))
def test_constant_image_stays_constant(seed, frame, size):
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(8, 1, 1, 1, generator=generator)
    images = value.expand(8, 2, *frame)
    crops = crop_resize(images, _random_boxes(8, generator), size)
    torch.testing.assert_close(crops, value.expand_as(crops), atol=1e-5, rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(90, 90), (130, 110)]), st.sampled_from([8, 33]))
def test_ramp_is_sampled_at_box_location(seed, frame, size):
    generator = torch.Generator().manual_seed(seed)
    height, width = frame
    x = ((torch.arange(width) + 0.5) / width).expand(height, width)
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    boxes = _random_boxes(8, generator, margin=0.1)
    crops = crop_resize(torch.stack([x, y]).expand(8, 2, height, width), boxes, size)
    offset = (torch.arange(size) + 0.5) / size - 0.5
    # Away from the edges of the box, where the filter is cut off and becomes asymmetric.
    inner = slice(max(2, size // 8), -max(2, size // 8))
    for axis, line in ((0, crops[:, 0].mean(dim=1)), (1, crops[:, 1].mean(dim=2))):
        expected = boxes[:, axis, None] + boxes[:, axis + 2, None] * offset
        torch.testing.assert_close(line[:, inner], expected[:, inner], atol=2e-3, rtol=0)


def test_pixels_outside_the_box_do_not_count():
    images = torch.zeros(1, 1, 40, 40)
    images[:, :, 10:30, 10:30] = 1
    assert crop_resize(images, _boxes_from_edges((40, 40), [[10, 10, 30, 30]]), 16).min() > 1 - 1e-5


@each_frame
def test_partly_covered_pixel_counts_partly(frame):
    # One output pixel over 1.5 input pixels with values 0 and 3: the weights of the triangle
    # filter, times the covered parts 1 and 0.5.
    width = frame[1]
    images = torch.zeros(1, 1, *frame)
    images[..., 21] = 3
    box = xyxy_to_cxcywh(torch.tensor([[20 / width, 0, 21.5 / width, 1]]))
    near, far = 1 - 0.25 / 1.5, (1 - 0.75 / 1.5) * 0.5
    expected = 3 * far / (near + far)
    torch.testing.assert_close(crop_resize(images, box, 1).item(), expected, atol=1e-4, rtol=0)


@each_frame
def test_resolution_equals_two_resizes(frame):
    edges = _edges(frame)
    images, boxes = torch.rand(len(edges), 3, *frame), _boxes_from_edges(frame, edges)
    grid = torch.tensor([[1, 1], [8, 8], [5, 24], [24, 3], [32, 32], [1, 2], [13, 17]])
    ours = crop_resize(images, boxes, 32, grid.float())
    for image, (left, top, right, bottom), (across, down), crop in zip(
        images, edges, grid.tolist(), ours, strict=True
    ):
        cut = image[None, :, top:bottom, left:right]
        small = F.interpolate(cut, (down, across), mode="bilinear", antialias=True)
        expected = F.interpolate(small, (32, 32), mode="bilinear")
        assert (crop - expected[0]).abs().max() < _STEP


@each_frame
@pytest.mark.parametrize("excess", [1e-7, -1e-7])
def test_rounding_past_edge_adds_no_weight(frame, excess):
    centre = (0.9 if excess > 0 else 0.1) + excess
    boxes = torch.tensor([[centre, centre, 0.2, 0.2], [0.5, 0.5, 1, 1]]).double()
    crops = crop_resize(torch.ones(2, 1, *frame, dtype=torch.float64), boxes, 16)
    torch.testing.assert_close(crops, torch.ones_like(crops), atol=1e-12, rtol=0)


@pytest.mark.parametrize("resolution", [None, 5.0])
@pytest.mark.parametrize("frame", [(9, 11), (9, 1500)], ids=str)
def test_image_gradients_are_correct(frame, resolution):
    images = torch.rand(2, 1, *frame, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.5, 0.5, 0.9, 0.8], [0.41, 0.52, 0.33, 0.61]])
    grid = None if resolution is None else torch.full((2, 2), resolution)
    assert torch.autograd.gradcheck(
        lambda images: crop_resize(images, boxes, 6, grid), images, fast_mode=True
    )


@each_frame
def test_float64_is_computed_in_float64(frame):
    edges = _edges(frame)
    images = torch.rand(len(edges), 3, *frame, dtype=torch.float64)
    boxes = _boxes_from_edges(frame, edges)
    crops = crop_resize(images, boxes, 32)
    assert crops.dtype == torch.float64
    # The filter is linear: adding 2^30 and subtracting it again is exact, except in float32.
    shifted = crop_resize(images + 2**30, boxes, 32) - 2**30
    torch.testing.assert_close(shifted, crops, atol=1e-5, rtol=0)


@each_frame
def test_autocast_changes_nothing(frame):
    edges = _edges(frame)
    images, boxes = torch.rand(len(edges), 3, *frame), _boxes_from_edges(frame, edges)
    plain = crop_resize(images, boxes, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = crop_resize(images, boxes, 32)
    assert inside.dtype == torch.float32 and torch.equal(inside, plain)


@pytest.mark.parametrize(
    ("images", "boxes"),
    [
        ((3, 20, 20), (3, 4)),
        ((2, 3, 20, 20), (3, 4)),
        ((2, 3, 20, 20), (4,)),
        ((2, 3, 20, 20), (2, 5)),
        ((2, 3, 20, 20), (2, 3, 4)),
        ((2, 3, 20, 20), (1, 1, 2, 4)),
    ],
)
def test_wrong_shapes_are_refused(images, boxes):
    with pytest.raises(
        ValueError, match=r"takes images \(B, C, H, W\) and boxes \(B, 4\) or \(k, B, 4\), got"
    ):
        crop_resize(torch.rand(images), torch.rand(boxes), 8)
