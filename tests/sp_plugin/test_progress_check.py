"""ProgressCheck: what a progress that cannot be right leads to, in one line."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sp_plugin import ConfigError, SpatialPrediction, SPConfig, SPSession
from sp_plugin.progress_check import STILL_STEPS, ProgressCheck


def make_check(**settings: Any) -> ProgressCheck:
    return ProgressCheck(SpatialPrediction(4, SPConfig(hidden_dim=4, **settings)))


def lines_of(caplog: Any, check: ProgressCheck, values: Any) -> list[str]:
    with caplog.at_level(logging.WARNING, "sp_plugin"):
        for step, value in enumerate(values):
            check(value, step)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("value", ["0.5", math.nan, True, [0.5], torch.tensor(0.5)], ids=repr)
def test_other_values_are_refused(value: Any):
    with pytest.raises(ConfigError, match=r"^progress: got .*, takes the fraction of training"):
        make_check()(value, 0)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1)], ids=repr)
def test_numbers_are_taken(value: Any):
    assert make_check()(value, 0) == value


def test_cooldown_needs_progress():
    line = r"^progress: missing, and cooldown_fraction is 0.2; takes the fraction"
    session = SPSession(nn.Conv2d(3, 4, 3), cooldown_fraction=0.2)
    with pytest.raises(ConfigError, match=line):
        session(torch.rand(2, 3, 24, 24))
    assert session.step == 0
    assert make_check(cooldown_fraction=0.2, weight=0)(None, 0) == 1


def test_percentage_is_said_once(caplog):
    lines = lines_of(caplog, make_check(), [0, 1, 2.0, 50.0, 100.0])
    assert len(lines) == 1 and lines[0].startswith("SP: progress is 2, and counts as 0 or 1")
    assert make_check()(1.2, 0) == 1 and make_check()(-3, 0) == 0


@pytest.mark.parametrize(
    ("settings", "value", "count"),
    [
        ({}, 0.0, 1),
        ({"warmup_fraction": 0.5}, 0.04, 1),
        ({"cooldown_fraction": 0.5, "warmup_fraction": 0}, 1.0, 2),  # also a late first step
        ({}, None, 0),
        ({}, 1.0, 1),  # a late first step alone
        ({"warmup_fraction": 0}, 0.0, 0),
        ({"weight": 0}, 0.0, 0),
    ],
)
def test_still_progress_is_said_once(caplog, settings, value, count):
    assert len(lines_of(caplog, make_check(**settings), [value] * 3 * STILL_STEPS)) == count


def test_moving_progress_is_silent(caplog):
    values = [0.0] * STILL_STEPS + [step / 1000 for step in range(1, 1000)]
    assert lines_of(caplog, make_check(), values) == []


@pytest.mark.parametrize("is_loaded", [False, True])
def test_resume_without_state_is_said(caplog, is_loaded: bool):
    session = SPSession(nn.Conv2d(3, 4, 3), hidden_dim=4)
    if is_loaded:
        session.load_state_dict({**session.state_dict(), "step": 0})
    session(torch.rand(2, 3, 24, 24), progress=0.5)
    said = [r for r in caplog.records if "no state of SP was loaded" in r.getMessage()]
    assert len(said) == (0 if is_loaded else 1)
