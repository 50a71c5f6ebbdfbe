from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks.pair_sampling import SampledCrops, extract_crop_features, sample_crop_groups
from torch import Tensor, nn

from sp_plugin import crop_resize
from sp_plugin.crops.boxes import box_area, cxcywh_to_xyxy, paired_iou


class Recorder(nn.Module):
    """Records its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images.flatten(1)


def test_pairs_depend_on_part_only():
    torch.manual_seed(1)
    one = sample_crop_groups(30, 50, 64, 32, part=0)
    torch.manual_seed(2)
    other = sample_crop_groups(30, 50, 64, 32, part=0)
    scored = sample_crop_groups(30, 50, 64, 32, part=1)
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.image, other.image)
    assert torch.equal(one.resolution, other.resolution)
    assert not torch.equal(one.boxes, scored.boxes)


def test_extra_crops_have_pairwise_targets():
    draws = sample_crop_groups(40, 40, 64, 32, part=0, num_crops=3)
    assert draws.boxes.shape == (3, 40, 4)
    truth = draws.targets.unflatten(0, (3, 40))
    for (a, b), target in zip([(0, 1), (0, 2), (1, 2)], truth, strict=True):
        assert float(paired_iou(draws.boxes[a], draws.boxes[b]).median()) < 0.1
        assert torch.allclose(target[:, :2], (draws.boxes[b] - draws.boxes[a])[:, :2])
        sigma = (box_area(draws.boxes[b]) / box_area(draws.boxes[a])).log() / 2
        assert torch.allclose(target[:, 2], sigma, atol=1e-5)


@given(st.integers(1, 60), st.integers(1, 150))
def test_images_are_used_evenly(images, most):
    draws = sample_crop_groups(images, most, 64, 32, part=0)
    times = draws.image.bincount(minlength=images)
    assert len(draws.image) == min(most, 2 * images)
    assert int(times.max()) <= 2
    assert int(times.max() - times.min()) <= 1


@pytest.mark.parametrize(("frame", "least"), [(64, 0.15), (224, 0.05)])
def test_pairs_lie_in_windows_as_in_sp(frame, least):
    draws = sample_crop_groups(2000, 4000, frame, 32, part=0)
    a, b = draws.boxes
    areas = box_area(draws.boxes)
    assert cxcywh_to_xyxy(draws.boxes).min() >= -1e-6
    assert cxcywh_to_xyxy(draws.boxes).max() <= 1 + 1e-6
    # Large crops in a small window do not all find room apart.
    assert (paired_iou(a, b) <= 0.1).float().mean() > 0.92
    # A window has a side of 0.5 to 1, and a crop least to 0.32 of its area.
    assert 0.25 * least <= areas.min() < 0.3 * least
    assert 0.3 < areas.max() <= 0.32
    # Shared: half to all of the coarser crop's own pixels, or of its size after resizing.
    coarser = (draws.boxes[..., 2:] * frame).amin(dim=0).clamp(max=32)
    assert (draws.resolution <= coarser).all()
    assert (draws.resolution > coarser / 2 - 1).all()


def test_targets_are_shift_and_log_ratio():
    boxes = torch.tensor([[[0.2, 0.5, 0.1, 0.2]], [[0.6, 0.4, 0.2, 0.4]]])
    draws = SampledCrops(torch.zeros(1, dtype=torch.int64), boxes, torch.ones(1, 2))
    torch.testing.assert_close(draws.targets, torch.tensor([[0.4, -0.1, math.log(2)]]))


@pytest.mark.parametrize("batch_size", [3, 256])
def test_crops_are_ordered_a_then_b(batch_size):
    images = torch.randint(256, (6, 3, 40, 40), dtype=torch.uint8)
    draws = sample_crop_groups(6, 11, 40, 16, part=0)
    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    frozen = FrozenBackbone(nn.Flatten(), side=16, crop_size=16, batch_size=batch_size)
    for resolution in (None, draws.resolution):
        views = extract_crop_features(frozen, images, draws, resolution)
        frames = images[draws.image] / 255
        expected = torch.stack([crop_resize(frames, b, 16, resolution) for b in draws.boxes])
        expected = (expected - mean.view(3, 1, 1)) / sd.view(3, 1, 1)
        torch.testing.assert_close(views, expected.flatten(2))


def test_backbones_see_the_same_crops():
    images = torch.randint(256, (6, 3, 40, 40), dtype=torch.uint8)
    seen = []
    for seed, batch_size in ((0, 2), (1, 2)):
        torch.manual_seed(seed)
        recorder = Recorder()
        net = nn.Sequential(recorder, nn.Linear(3 * 16 * 16, 4 + seed))
        frozen = FrozenBackbone(net, side=16, crop_size=16, batch_size=batch_size)
        recorder.seen.clear()
        before = torch.get_rng_state()
        extract_crop_features(
            frozen, images, sample_crop_groups(6, 12, 40, frozen.crop_size, part=1)
        )
        assert torch.equal(torch.get_rng_state(), before)
        seen.append(torch.cat(recorder.seen))
    assert torch.equal(*seen)
