"""The longer baseline: SP's extra compute as more epochs."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path

from sp_bench.callbacks import COUNTED_STEPS
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
    """`matched_epochs` from the operations of a few steps, so that no other run is needed.

    Args:
        settings: settings of the SP arm.
        images: training images, of which one batch is used.
    """
    batch = Selection(images, range(settings.batch_size))
    one_step_epochs = dataclasses.replace(settings, epochs=COUNTED_STEPS)
    flops = []
    for arm in (BASELINE, SP):
        with tempfile.TemporaryDirectory() as folder:
            run = pretrain(one_step_epochs, arm, 0, batch, Path(folder), lambda *_: None)
        flops.append(run.record.flops)
    return matched_epochs(settings.epochs, *flops)
