"""The whole task on encoders whose features hold one property each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.tasks import run_task
from sp_bench.tasks.pair import TASK
from torch import Tensor, nn


def test_position_encoder_gains_everywhere(ramps, make_context, position_encoder, noise_encoder):
    found = run_task(
        TASK, make_context(position_encoder, ramps, noise_encoder, side=64, crop_size=32)
    )
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


def test_equal_pairs_expose_sharpness_cue(fractals, make_context, sharpness_encoder, noise_encoder):
    found = run_task(
        TASK, make_context(sharpness_encoder, fractals, noise_encoder, side=96, crop_size=48)
    )
    assert found["pair_scale_r2"] > 0.95
    assert found["pair_scale_gain"] > 0.5
    assert abs(found["pair_scale_equal"]) < 0.08
    assert abs(found["pair_scale_equal_gain"]) < 0.08
    assert abs(found["pair_dx_r2"]) < 0.05


def test_probes_fit_on_train_score_on_test(
    ramps, arrays, make_context, position_encoder, noise_encoder
):
    mirrored = arrays(np.ascontiguousarray(ramps.test.pixels[:, :, ::-1]), ramps.test.labels)
    found = run_task(
        TASK,
        make_context(position_encoder, Splits("mirrored", ramps.train, mirrored), noise_encoder),
    )
    assert found["pair_dx_r2"] == pytest.approx(-3, abs=0.3)  # all shifts have the wrong sign
    assert found["pair_dy_r2"] > 0.97


def test_noise_encoder_gains_nothing(ramps, make_context, position_encoder, noise_encoder):
    found = run_task(
        TASK, make_context(noise_encoder, ramps, position_encoder, side=64, crop_size=32)
    )
    for metric in TASK.metrics[:4]:
        assert abs(found[metric.key]) < 0.05
    assert min(found[f"pair_{name}_random"] for name in ("dx", "dy", "scale")) > 0.97
    # Guessing the mean of sigma, whose spread is known: a normal's mean error is 0.8 of it.
    assert found["pair_scale_error"] == pytest.approx(0.8 * 0.155 / math.log(2), rel=0.15)


def test_gains_are_differences_of_r2(net, tints, make_context):
    found = run_task(TASK, make_context(net, tints))
    for name in ("dx", "dy", "scale"):
        gain = found[f"pair_{name}_r2"] - found[f"pair_{name}_one"]
        assert found[f"pair_{name}_gain"] == pytest.approx(gain)
    equal = found["pair_scale_equal"] - found["pair_scale_equal_one"]
    assert found["pair_scale_equal_gain"] == pytest.approx(equal)


def test_headline_metrics_are_the_four_gains():
    assert [metric.key for metric in TASK.metrics if metric.headline] == [
        "pair_dx_gain",
        "pair_dy_gain",
        "pair_scale_gain",
        "pair_scale_equal_gain",
    ]
    assert (len(TASK.metrics), sum(metric.shown for metric in TASK.metrics)) == (48, 10)
    low = {metric.key for metric in TASK.metrics if not metric.higher_is_better}
    assert low == {"pair_dx_error", "pair_dy_error", "pair_scale_error"}


def test_backbones_see_the_same_crops(tints, make_context, noise_encoder):
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
        context = make_context(arm, tints, noise_encoder, seed=seed)
        arm.images.clear()
        TASK.run(context)
    assert torch.equal(torch.cat(arms[0].images), torch.cat(arms[1].images))


def test_one_image_is_refused(net, tints, arrays, make_context):
    alone = arrays(tints.test.pixels[:1], np.zeros(1))
    with pytest.raises(UnmeasurableError, match="two images"):
        TASK.run(make_context(net, Splits("alone", tints.train, alone)))
