"""The longer baseline of a suite: SP's extra compute as more epochs, counted before it is run."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from sp_bench.callbacks import COUNTED_STEPS
from sp_bench.config import Settings
from sp_bench.data import ImageDataset
from sp_bench.data.dataset import Selection
from sp_bench.pretrain import pretrain
from sp_bench.results import BASELINE, SP


def epochs_for(settings: Settings, images: ImageDataset) -> int:
    """As many epochs more for the baseline as SP's forward operations beside the method's.

    Both are counted in a few steps, so that this run waits for no other.

    Args:
        settings: of the SP arm.
        images: a batch of them is taken.
    """
    batch = Selection(images, range(settings.batch_size))
    few = dataclasses.replace(settings, epochs=COUNTED_STEPS)  # of one step each
    flops = {}
    for arm in (BASELINE, SP):
        with tempfile.TemporaryDirectory() as folder:
            made = pretrain(few, arm, 0, batch, Path(folder), lambda *_: None)
        flops[arm] = made.record.flops
    return longer(settings.epochs, flops[BASELINE], flops[SP])


def longer(epochs: int, baseline: float, sp: float) -> int:
    """Epochs of a baseline that computes as much as SP in ``epochs``.

    >>> longer(30, baseline=2.0, sp=3.0)
    45
    """
    return max(1, round(epochs * (sp / baseline if baseline else 1.0)))
