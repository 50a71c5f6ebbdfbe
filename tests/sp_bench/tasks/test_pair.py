"""The whole task on encoders that know one thing each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sp_bench.data.pictures import Splits
from sp_bench.features import UnmeasurableError
from sp_bench.tasks import measure
from sp_bench.tasks.pair import TASK
from torch import Tensor, nn


class Position(nn.Module):
    """On `ramps`: where a crop lies, by its mean, and how large it is, by its spread."""

    def forward(self, images: Tensor) -> Tensor:
        ramp = images[:, :2].flatten(2)
        return torch.cat([ramp.mean(dim=2), ramp.std(dim=2).clamp_min(1e-6).log()], dim=1)


class Sharpness(nn.Module):
    """How bent a crop is from pixel to pixel, for how steep it is: blur, and nothing else."""

    def forward(self, images: Tensor) -> Tensor:
        told = []
        for axis in (2, 3):
            slope = images.diff(dim=axis)
            bend = slope.diff(dim=axis).square().mean(dim=(1, 2, 3))
            told.append(bend / slope.square().mean(dim=(1, 2, 3)).clamp_min(1e-9))
        return torch.stack(told, dim=1).clamp_min(1e-9).log()


class Chance(nn.Module):
    """Numbers that depend on the crop and tell nothing of it."""

    def forward(self, images: Tensor) -> Tensor:
        return (images.mean(dim=(1, 2, 3))[:, None] * torch.tensor([1e4, 3e4])).sin()


@pytest.fixture
def ramps(arrays) -> Splits:
    """Red rises from left to right and green from top to bottom: each pixel tells its place."""
    rise = np.round((np.arange(64) + 0.5) / 64 * 255).astype(np.uint8)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0], picture[..., 1] = rise, rise[:, None]
    parts = [arrays(np.stack([picture] * n), np.arange(n) % 2) for n in (300, 300)]
    return Splits("ramps", *parts)


@pytest.fixture
def fractals(arrays) -> Splits:
    """1/f noise: it looks the same at every scale, so that only blur tells how large a crop is."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96)) + 1e-9
    frequency[0, 0] = np.inf

    def part(count: int):
        spectrum = np.fft.fft2(rng.normal(size=(count, 3, 96, 96))) / frequency
        waves = np.fft.ifft2(spectrum).real
        waves = 128 + 45 * waves / waves.std(axis=(2, 3), keepdims=True)
        pixels = waves.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return arrays(np.ascontiguousarray(pixels), np.arange(count) % 2)

    return Splits("fractals", part(250), part(250))


def test_an_encoder_that_knows_where_it_is_has_r2_1_and_a_gain_in_every_component(ramps, ask):
    found = measure(TASK, ask(Position(), ramps, Chance(), side=64, crop=32))
    for name in ("dx", "dy", "scale"):
        assert found[f"pair_{name}_r2"] > 0.97
        assert found[f"pair_{name}_equal"] > 0.9
        assert found[f"pair_{name}_gain"] > 0.3
        assert found[f"pair_{name}_one"] < 0.65
        assert found[f"pair_{name}_shuffled"] < 0.65
        assert abs(found[f"pair_{name}_random"]) < 0.05
    assert found["pair_scale_equal_gain"] > 0.3
    assert found["pair_dx_error"] < 0.02
    assert found["pair_dy_error"] < 0.02


def test_an_encoder_that_reads_sharpness_alone_is_found_out_on_equalised_pairs(fractals, ask):
    found = measure(TASK, ask(Sharpness(), fractals, Chance(), side=96, crop=48))
    assert found["pair_scale_r2"] > 0.95
    assert found["pair_scale_gain"] > 0.5
    assert abs(found["pair_scale_equal"]) < 0.08
    assert abs(found["pair_scale_equal_gain"]) < 0.08
    assert abs(found["pair_dx_r2"]) < 0.05


def test_probes_are_fitted_on_training_pictures_and_scored_on_the_others(ramps, arrays, ask):
    mirrored = arrays(np.ascontiguousarray(ramps.test.pixels[:, :, ::-1]), ramps.test.labels)
    found = measure(TASK, ask(Position(), Splits("mirrored", ramps.train, mirrored), Chance()))
    assert found["pair_dx_r2"] == pytest.approx(-3, abs=0.3)  # all shifts told the wrong way round
    assert found["pair_dy_r2"] > 0.97


def test_an_encoder_that_knows_nothing_gains_nothing(ramps, ask):
    found = measure(TASK, ask(Chance(), ramps, Position(), side=64, crop=32))
    for figure in TASK.figures[:4]:
        assert abs(found[figure.key]) < 0.05
    assert min(found[f"pair_{name}_random"] for name in ("dx", "dy", "scale")) > 0.97
    # Guessing the mean of sigma, whose spread is known: a normal's mean error is 0.8 of it.
    assert found["pair_scale_error"] == pytest.approx(0.8 * 0.155 / math.log(2), rel=0.15)


def test_gains_are_the_differences_of_what_stands_beside_them(net, tints, ask):
    found = measure(TASK, ask(net, tints))
    for name in ("dx", "dy", "scale"):
        gain = found[f"pair_{name}_r2"] - found[f"pair_{name}_one"]
        assert found[f"pair_{name}_gain"] == pytest.approx(gain)
    equal = found["pair_scale_equal"] - found["pair_scale_equal_one"]
    assert found["pair_scale_equal_gain"] == pytest.approx(equal)


def test_four_gains_are_the_headlines_and_errors_are_better_low():
    assert [figure.key for figure in TASK.figures if figure.headline] == [
        "pair_dx_gain",
        "pair_dy_gain",
        "pair_scale_gain",
        "pair_scale_equal_gain",
    ]
    low = {figure.key for figure in TASK.figures if not figure.higher_is_better}
    assert low == {"pair_dx_error", "pair_dy_error", "pair_scale_error"}


def test_the_baseline_and_sp_are_shown_the_same_crops(tints, ask):
    class Seen(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.width, self.images = width, []

        def forward(self, images: Tensor) -> Tensor:
            self.images.append(images)
            return images.flatten(1)[:, : self.width]

    arms = [Seen(5), Seen(9)]
    for seed, arm in enumerate(arms):
        torch.manual_seed(seed)
        subject = ask(arm, tints, Chance(), seed=seed)
        arm.images.clear()
        TASK.run(subject)
    assert torch.equal(torch.cat(arms[0].images), torch.cat(arms[1].images))


def test_a_partner_takes_another_picture(net, tints, arrays, ask):
    alone = arrays(tints.test.pixels[:1], np.zeros(1))
    with pytest.raises(UnmeasurableError, match="two pictures"):
        TASK.run(ask(net, Splits("alone", tints.train, alone)))
