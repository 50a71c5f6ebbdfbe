"""Results: what a comparison measured, as it stands in results.json."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASELINE, SP = "baseline", "sp"
ARMS = (BASELINE, SP)
LONGER = "longer"  # a baseline that trained for as much compute as SP took
ALONE = (BASELINE, LONGER)  # arms without SP

# The pair task gives `pair_dx_<key>` and so on for each; the report tells them by these words.
PAIR_CONTROLS = {
    "r2": "both views",
    "one": "one view alone",
    "shuffled": "partner shuffled",
    "random": "random backbone",
    "equal": "sharpness equalised",
    "equal_one": "sharpness equalised, one view alone",
}


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all: a killed run leaves the one that was there."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    part.replace(path)


@dataclass(frozen=True)
class MetricSpec:
    """One number that a task gives, and how to read it.

    Attributes:
        key: its name in results.json, such as ``knn`` or ``pair_dx_gain``.
        label: its name in a table.
        percent: shown times 100.
        headline: stands in the table that is printed; others only in the report, as controls.
        higher_is_better: which way is better.
        chance: what guessing gives; None where that depends on the data.
    """

    key: str
    label: str
    percent: bool = False
    headline: bool = True
    higher_is_better: bool = True
    chance: float | None = None


@dataclass
class Run:
    """One pre-training and what its backbone was worth.

    Attributes:
        arm: ``baseline``, ``sp`` or ``longer``.
        seed: shared by the runs of a pair.
        figures: by `MetricSpec.key`.
        curve: one dict an epoch, with ``epoch``, ``loss`` (the host's own) and, for SP,
            ``sp_loss``, ``sp_r2_dx``, ``sp_r2_dy``, ``sp_r2_scale``, ``sp_weight``.
        seconds: of pre-training, wall clock.
        images_seen: images that pre-training went through.
        flops: forward operations of pre-training, SP's among them.
        checkpoint: path relative to results.json.
    """

    arm: str
    seed: int
    figures: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    images_seen: int = 0
    flops: float = 0.0
    checkpoint: str = ""


@dataclass
class Row:
    """A line of the table: means over seeds, and the paired difference with its interval."""

    figure: MetricSpec
    baseline: float
    sp: float
    difference: float
    low: float
    high: float
    seeds: int


@dataclass
class Results:
    """All of a comparison: how it was made, its runs and its table.

    Attributes:
        settings: as resolved, plain values.
        versions: of Python and of the libraries.
        machine: processor, cores, device, precision.
        data: name, classes, images in train and test, skipped files.
        runs: every finished run.
        rows: one for each figure, headline or not.
        longer: the same against the longer baseline in place of the baseline; empty without one.
    """

    settings: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    data: dict[str, Any]
    runs: list[Run]
    rows: list[Row]
    longer: list[Row] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        told = json.loads(path.read_text())
        tables = {
            name: [
                Row(**{**row, "figure": MetricSpec(**row["figure"])}) for row in told.pop(name, [])
            ]
            for name in ("rows", "longer")
        }
        return cls(**{**told, **tables, "runs": [Run(**run) for run in told["runs"]]})
