"""Results of a comparison, as written to results.json."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASELINE, SP = "baseline", "sp"
ARMS = (BASELINE, SP)
LONGER = "longer"  # a baseline with SP's extra compute as more epochs
ARMS_WITHOUT_SP = (BASELINE, LONGER)
ARM_NAMES = {BASELINE: "baseline", SP: "SP", LONGER: "longer baseline"}


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all: an interrupted write keeps the previous file."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file under another name, and give it its own when it is complete."""
    part = path.with_suffix(".part")
    write(part)
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


@dataclass(frozen=True)
class MetricSpec:
    """Name and meaning of one number that a task measures.

    Attributes:
        key: name in results.json, such as ``knn`` or ``pair_dx_gain``.
        label: name in a table.
        percent: whether it is a share, shown times 100.
        headline: whether it is in the printed table; the others are controls, in reports only.
        higher_is_better: direction of improvement.
        chance: value of guessing; None where that depends on the data.
        shown: whether it is in tables and reports; False: in JSON alone.
    """

    key: str
    label: str
    percent: bool = False
    headline: bool = True
    higher_is_better: bool = True
    chance: float | None = None
    shown: bool = True


@dataclass
class Run:
    """One pre-training run and the metrics of its backbone.

    Attributes:
        arm: ``baseline``, ``sp`` or ``longer``.
        seed: shared by the runs of a pair.
        metrics: values by `MetricSpec.key`.
        curve: one dict per epoch, with ``epoch``, ``loss`` (of the method alone) and, for SP,
            ``sp_loss``, ``sp_r2_dx``, ``sp_r2_dy``, ``sp_r2_scale``, ``sp_weight``.
        seconds: wall-clock time of pre-training.
        images_seen: number of images processed in pre-training.
        flops: forward operations of pre-training, including those of SP.
        checkpoint: path relative to results.json.
        correct: which test images were classified correctly, by the key of an accuracy, as by
            `sp_bench.stats.pack_correct`.
    """

    arm: str
    seed: int
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    images_seen: int = 0
    flops: float = 0.0
    checkpoint: str = ""
    correct: dict[str, str] = field(default_factory=dict)


@dataclass
class Row:
    """One metric: means over seeds, and the paired difference with its 95% interval.

    ``p_value`` is that of the paired t test. It and the interval are NaN for one seed and for equal
    differences; it is NaN too in files that lack it.
    """

    metric: MetricSpec
    baseline: float
    sp: float
    difference: float
    low: float
    high: float
    seeds: int
    p_value: float = math.nan


@dataclass
class Results:
    """A comparison: its settings, runs and rows.

    Attributes:
        settings: resolved settings, as plain values.
        versions: versions of Python and of the libraries.
        machine: processor, cores, device, precision.
        data: name, classes, number of training and test images, skipped files.
        runs: all finished runs.
        rows: one row per metric, headline or not.
        longer: the same rows with the longer baseline as baseline; empty without that arm.
    """

    settings: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    data: dict[str, Any]
    runs: list[Run]
    rows: list[Row]
    longer: list[Row] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write as JSON, completely or not at all."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        values = json.loads(path.read_text())
        for name in ("rows", "longer"):
            values[name] = [
                Row(**{**row, "metric": MetricSpec(**row["metric"])})
                for row in values.get(name, [])
            ]
        values["runs"] = [Run(**run) for run in values["runs"]]
        return cls(**values)
