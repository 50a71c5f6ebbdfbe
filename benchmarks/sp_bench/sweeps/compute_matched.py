"""The longer baseline: SP's extra compute as more epochs.

Epochs are matched by forward and backward operations. A run's recorded ``flops``, in results and
reports, are forward operations alone; by these a method with an EMA teacher, whose passes have no
backward, would get too few epochs: MoCo at 32 px costs 1.08 times as much with SP by forward
operations, 1.11 times by both.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path

from sp_bench.callbacks import COUNTED_STEPS, RunRecorder
from sp_bench.config import Settings
from sp_bench.data import ImageDataset
from sp_bench.data.dataset import Selection
from sp_bench.pretrain import pretrain
from sp_bench.results import BASELINE, SP


def matched_epochs(epochs: int, baseline_flops: float, sp_flops: float) -> int:
    """Whole epochs of a baseline that computes at least as much as SP does in ``epochs``.

    Args:
        epochs: epochs of the SP run.
        baseline_flops: operations of the baseline in as many epochs; 0 if unknown.
        sp_flops: operations of the SP run.

    >>> matched_epochs(30, baseline_flops=2.0, sp_flops=3.0)
    45
    >>> matched_epochs(10, baseline_flops=1.0, sp_flops=1.04)
    11
    """
    ratio = sp_flops / baseline_flops if baseline_flops else 1.0
    return max(1, math.ceil(round(epochs * ratio, 6)))


def count_matched_epochs(settings: Settings, images: ImageDataset) -> int:
    """`matched_epochs` from forward and backward operations of a few steps.

    No other run is needed.

    Args:
        settings: settings of the SP arm.
        images: training images, of which one batch is used.
    """
    records = (record_few_steps(settings, arm, images) for arm in (BASELINE, SP))
    return matched_epochs(settings.epochs, *(record.flops_with_backward for record in records))


def record_few_steps(settings: Settings, arm: str, images: ImageDataset) -> RunRecorder:
    """Record of an arm's first steps, all on the first batch; arguments as above."""
    batch = Selection(images, range(settings.batch_size))
    one_step_epochs = dataclasses.replace(settings, epochs=COUNTED_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        return pretrain(one_step_epochs, arm, 0, batch, Path(folder), lambda *_: None).record
