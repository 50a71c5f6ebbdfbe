"""The whole task on encoders whose features hold one property each."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.tasks import pair_interaction, run_task
from sp_bench.tasks.pair_interaction import TASK
from torch import Tensor, nn

COMPONENTS = ("dx", "dy", "scale")


class Phase(nn.Module):
    """On `waves`: the phase of a wave at the crop's middle, as an angle's cosine and sine."""

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, 0].mean(dim=(1, 2)) * 0.229 + 0.485
        blue = images[:, 2].mean(dim=(1, 2)) * 0.225 + 0.406
        angle = 2.5 * red + 2 * math.pi * blue
        return torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.fixture
def waves(arrays) -> Splits:
    """Red rises from left to right; blue is one for each image, any of all alike."""
    rng = np.random.default_rng(0)

    def part(count: int):
        images = np.zeros((count, 64, 64, 3), np.uint8)
        images[..., 0] = np.round((np.arange(64) + 0.5) / 64 * 255)
        images[..., 2] = rng.integers(0, 256, (count, 1, 1))
        return arrays(images, np.arange(count) % 2)

    return Splits("waves", part(600), part(200))


def test_phase_needs_both_crops(waves, make_context, noise_encoder):
    found = run_task(TASK, make_context(Phase(), waves, noise_encoder, side=64, crop_size=32))
    assert found["pair_interaction_dx_r2"] > 0.9
    assert abs(found["pair_interaction_dx_one"]) < 0.1
    assert found["pair_interaction_dx_apart"] < 0.5
    assert found["pair_interaction_dx_gain"] > 0.8
    assert found["pair_interaction_beyond"] > 0.15
    for name in COMPONENTS:
        assert abs(found[f"pair_interaction_{name}_random"]) < 0.1
    assert abs(found["pair_interaction_dy_r2"]) < 0.1


def test_random_backbone_is_fitted_once(waves, make_context, noise_encoder, monkeypatch):
    fits = []
    predict = pair_interaction.predict
    monkeypatch.setattr(
        pair_interaction, "predict", lambda *args: fits.append(args[-1]) or predict(*args)
    )
    context = make_context(Phase(), waves, noise_encoder, side=64, crop_size=32)
    one = run_task(TASK, context)
    again = run_task(TASK, replace(context, backbone=context.untrained))
    assert len(fits) == 4 + 3
    assert again["pair_interaction_dx_r2"] == one["pair_interaction_dx_random"]
    assert again["pair_interaction_dx_random"] == one["pair_interaction_dx_random"]


def test_position_needs_no_interaction(ramps, make_context, noise_encoder, position_encoder):
    found = run_task(
        TASK, make_context(position_encoder, ramps, noise_encoder, side=64, crop_size=32)
    )
    for name in COMPONENTS:
        assert found[f"pair_interaction_{name}_r2"] > 0.9
        assert found[f"pair_interaction_{name}_one"] < 0.65
        assert found[f"pair_interaction_{name}_gain"] > 0.3
    assert abs(found["pair_interaction_beyond"]) < 0.06


def test_sharpness_predicts_nothing(fractals, make_context, noise_encoder, sharpness_encoder):
    found = run_task(
        TASK, make_context(sharpness_encoder, fractals, noise_encoder, side=96, crop_size=48)
    )
    assert abs(found["pair_interaction_scale_r2"]) < 0.1


def test_probes_fit_on_train_score_on_test(
    ramps, arrays, make_context, noise_encoder, position_encoder
):
    mirrored = arrays(np.ascontiguousarray(ramps.test.pixels[:, :, ::-1]), ramps.test.labels)
    splits = Splits("mirrored", ramps.train, mirrored)
    found = run_task(
        TASK, make_context(position_encoder, splits, noise_encoder, side=64, crop_size=32)
    )
    assert found["pair_interaction_dx_r2"] == pytest.approx(-3, abs=0.4)
    assert found["pair_interaction_dy_r2"] > 0.9


def test_means_and_gains_are_consistent(net, tints, make_context):
    found = run_task(TASK, make_context(net, tints))
    both, one, apart = (
        np.array([found[f"pair_interaction_{name}_{key}"] for name in COMPONENTS])
        for key in ("r2", "one", "apart")
    )
    assert [found[f"pair_interaction_{name}_gain"] for name in COMPONENTS] == pytest.approx(
        both - one
    )
    assert found["pair_interaction_gain"] == pytest.approx((both - one).mean())
    assert found["pair_interaction_beyond"] == pytest.approx((both - apart).mean())


def test_one_image_is_refused(net, tints, arrays, make_context):
    alone = arrays(tints.test.pixels[:1], np.zeros(1))
    with pytest.raises(UnmeasurableError, match="two images"):
        TASK.run(make_context(net, Splits("alone", tints.train, alone)))
