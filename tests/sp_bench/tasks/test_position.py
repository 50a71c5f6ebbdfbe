"""The whole task on encoders whose features hold one property each."""

from __future__ import annotations

import pytest
from sp_bench.tasks import run_task
from sp_bench.tasks.position import TASK
from torch import Tensor, nn


class Constant(nn.Module):
    """The same feature for every image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.new_ones(len(images), 4)


def test_position_encoder_knows_positions(ramps, make_context, position_encoder):
    found = run_task(TASK, make_context(position_encoder, ramps, Constant(), side=64, crop_size=32))
    for name in ("x", "y", "size"):
        assert found[f"position_{name}"] > 0.97
        assert abs(found[f"position_{name}_shuffled"]) < 0.05
        assert abs(found[f"position_{name}_random"]) < 0.01
    for name in ("dx", "dy", "scale"):
        assert found[f"position_pair_{name}"] > 0.95


def test_constant_encoder_knows_nothing(tints, make_context, net):
    found = run_task(TASK, make_context(Constant(), tints, net))
    for key, value in found.items():
        if not key.endswith("_random"):
            assert value == pytest.approx(0, abs=0.05), key


def test_features_are_shared_with_pair(tints, make_context, net):
    """What pair has encoded is not encoded again."""
    from sp_bench.tasks.pair import TASK as PAIR

    context = make_context(net, tints)
    run_task(PAIR, context)
    encoded: list[int] = []
    context.backbone.on_encoded = context.untrained.on_encoded = encoded.append
    run_task(TASK, context)
    assert encoded == []
