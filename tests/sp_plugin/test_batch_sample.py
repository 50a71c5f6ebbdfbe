"""The part of a batch that SP sees, with ``sample_fraction`` below 1."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sp_plugin
from sp_plugin import (
    Crops,
    EncodedViews,
    SpatialPrediction,
    SPConfig,
    SPSession,
    spatial_prediction,
)
from sp_plugin.batch_sample import sample_images
from sp_plugin.isolation import make_generator
from sp_plugin.structures import UncoloredCrops

BATCH = 12


def inputs(kind: str) -> Any:
    """What SP takes, of 12 images."""
    torch.manual_seed(1)
    boxes = SPConfig(num_crops=3).resolve(32).build_sampler()(BATCH, make_generator(0))
    if kind == "images":
        return torch.rand(BATCH, 3, 32, 32)
    if kind == "crops":
        return Crops(boxes, torch.rand(3 * BATCH, 3, 16, 16))
    if kind == "uncolored":
        pixels = torch.randint(256, (3 * BATCH, 3, 16, 16), dtype=torch.uint8)
        return UncoloredCrops(boxes, pixels, torch.rand(BATCH, 3, 3) + 1)
    flips = torch.where(torch.rand(3, BATCH, 2) < 0.5, -1.0, 1.0)
    return EncodedViews(torch.randn(3, BATCH, 8), boxes, flips)


@pytest.mark.parametrize("fraction", [0.5, 0.26, 0.07])
def test_sample_is_a_subset_in_order(fraction: float):
    numbers = torch.arange(100.0).view(100, 1, 1, 1)
    sample = sample_images(numbers, fraction, 0, 0, 0).flatten()
    assert len(sample) == round(100 * fraction)
    assert (sample.diff() > 0).all()


@pytest.mark.parametrize("fraction", [0.01, 0.2])
def test_sample_has_two_images_at_least(fraction: float):
    assert len(sample_images(torch.rand(5, 1, 2, 2), fraction, 0)) == 2
    one = torch.rand(1, 1, 2, 2)
    assert sample_images(one, fraction, 0) is one


@pytest.mark.parametrize("kind", ["images", "crops", "uncolored", "views"])
def test_whole_batch_is_not_copied(kind: str):
    given = inputs(kind)
    assert sample_images(given, 1.0, 0) is given


def test_each_image_is_drawn_as_often():
    numbers = torch.arange(BATCH).view(BATCH, 1, 1, 1)
    drawn = [sample_images(numbers, 0.25, 0, 0, step).flatten() for step in range(2000)]
    counts = torch.cat(drawn).bincount(minlength=BATCH)
    assert (counts - 500).abs().max() < 100  # five standard deviations


@pytest.mark.parametrize("keys", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["seed", "rank", "step"])
def test_draw_depends_on_seed_rank_step(keys: tuple[int, ...]):
    images = torch.rand(64, 1, 2, 2)
    before = torch.get_rng_state()
    first, again = (sample_images(images, 0.25, 0, 0, 0) for _ in range(2))
    other = sample_images(images, 0.25, *keys)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == other.shape
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", ["images", "crops", "uncolored", "views"])
def test_loss_is_that_of_the_sample(kind: str):
    """A step with a part of the batch is a step with a batch of these images alone."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    settings = {"crop_size": 16, "hidden_dim": 8, "num_crops": 3, "relative_weight": False}
    sp = SpatialPrediction(8, SPConfig(**settings, sample_fraction=0.25))
    whole = SpatialPrediction(8, SPConfig(**settings, sample_fraction=1))
    whole.load_state_dict(sp.state_dict())
    given = inputs(kind)
    out = sp(net, given, step=3)
    expected = whole(net, sp.prepare_images(given, step=3), step=3)
    assert out.boxes.shape[1] == 3 * 3  # three pairs of three images
    torch.testing.assert_close(out.loss, expected.loss, rtol=0, atol=0)
    torch.testing.assert_close(out.boxes, expected.boxes, rtol=0, atol=0)


def test_encoded_views_are_all_used():
    """Whatever the source: their features are there anyway."""
    sp = SpatialPrediction(8, SPConfig(relative_weight=False))
    given = inputs("views")
    assert sp.prepare_images(given, step=3) is given
    assert len(sp.prepare_images(torch.rand(BATCH, 3, 32, 32), step=3)) < BATCH


def test_only_the_sample_is_encoded():
    sizes: list[int] = []
    net = nn.Conv2d(3, 8, 3)
    sp = SpatialPrediction(8, SPConfig(crop_size=16, sample_fraction=0.25, relative_weight=False))
    net.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    sp(net, inputs("images"), step=0)
    assert sizes == [4 * 3]


def test_only_the_sample_is_colored(monkeypatch):
    sizes: list[int] = []
    color_crops = spatial_prediction.color_crops

    def counted(crops: UncoloredCrops, generator: torch.Generator) -> Crops:
        sizes.append(len(crops.pixels))
        return color_crops(crops, generator)

    monkeypatch.setattr(spatial_prediction, "color_crops", counted)
    sp = SpatialPrediction(8, SPConfig(crop_size=16, sample_fraction=0.25, relative_weight=False))
    sp(nn.Conv2d(3, 8, 3), inputs("uncolored"), step=0)
    assert sizes == [3 * 3]


def test_bad_step_of_a_sample_is_recorded(tmp_path):
    net = nn.Conv2d(3, 4, 3)
    session = SPSession(
        net, hidden_dim=8, sample_fraction=0.5, on_nonfinite="record", record_folder=tmp_path
    )
    encoded: list[Tensor] = []
    net.register_forward_pre_hook(lambda _, given: encoded.append(given[0]))
    session(torch.full((BATCH, 3, 32, 32), torch.inf))
    step = sp_plugin.replay(next(tmp_path.iterdir()))
    assert step.record["batch_size"] == BATCH // 2
    crops = encoded[-1].unflatten(0, (4, BATCH // 2))[:, step.record["indices"]].flatten(0, 1)
    torch.testing.assert_close(step.crops.pixels, crops, equal_nan=True)
