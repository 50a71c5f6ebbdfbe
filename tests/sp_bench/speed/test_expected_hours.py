"""Hours on paper: the counted operations, and the table of the docs."""

from __future__ import annotations

from pathlib import Path

import pytest
from sp_bench.flops import count_flops
from sp_bench.speed.cases import ALONE, Case
from sp_bench.speed.expected_hours import Recipe, table
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.step_benchmark import TimedArm

PAGE = Path(__file__).parents[3] / "docs" / "suites.md"


def test_counts_agree_with_a_real_step() -> None:
    # Two views through student and teacher; the heads, which the paper leaves out, are small.
    fitted = TimedArm(Case("byol", "resnet18", 64, 2), ALONE, SpeedSettings(device="cpu"))
    step = count_flops(lambda: fitted.fit(1))
    recipe = Recipe("", "byol", "resnet18", 2, 1, ((2, 64),), teacher=2)
    assert 2 * recipe.host_flops == pytest.approx(step, rel=0.05)


@pytest.mark.slow
def test_docs_have_the_current_table() -> None:
    assert table().to_markdown() in PAGE.read_text()
