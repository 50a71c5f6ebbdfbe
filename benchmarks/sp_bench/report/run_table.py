"""Runs side by side: a column for each backbone or arm, a row for each figure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sp_bench.errors import UsageError
from sp_bench.report.number_format import change, interval, level, task_name
from sp_bench.results import BASELINE, LONGER, SP, MetricSpec, Results, Row, Run

_EVALUATION, _COMPARISON = "eval.json", "results.json"
_ARMS = {BASELINE: "baseline", SP: "SP", LONGER: "longer baseline"}


@dataclass(frozen=True)
class Found:
    """One folder that was given.

    Attributes:
        name: of the folder.
        results: of a comparison; None of an evaluation.
        evaluation: as it stands in ``eval.json``; empty of a comparison.
    """

    name: str
    results: Results | None
    evaluation: dict[str, Any] = field(default_factory=dict)


class Column(NamedTuple):
    """One backbone, or the mean over seeds of an arm.

    Attributes:
        run: name of the folder.
        name: of the arm, or of the backbone.
        figures: by key.
        compute: what is known of its cost, by name.
    """

    run: str
    name: str
    figures: Mapping[str, float]
    compute: dict[str, str]


def find_run(path: Path) -> Found:
    """Read the folder of a comparison or of an evaluation.

    Raises:
        UsageError: it is neither, or not finished.
    """
    name = path.resolve().name
    try:
        if (path / _COMPARISON).is_file():
            return Found(name, Results.load(path / _COMPARISON))
        if (path / _EVALUATION).is_file():
            return Found(name, None, json.loads((path / _EVALUATION).read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"report: {path} cannot be read: {error!r}") from error
    if not path.is_dir():
        raise UsageError(f"report: {path} is not there; takes folders of compare or eval")
    begun = (path / "settings.json").is_file()
    what = "is not finished; run its command again" if begun else "is no folder of compare or eval"
    raise UsageError(f"report: {path} {what}")


def columns(found: Sequence[Found]) -> list[Column]:
    """The columns of each run, in the order given."""
    return [column for each in found for column in _columns(each)]


def _columns(found: Found) -> list[Column]:
    if found.results is None:
        told = found.evaluation
        name = told["settings"]["backbone"] + ("" if told["checkpoint"]["path"] else ", random")
        return [Column(found.name, name, told["metrics"], _evaluated(told))]
    arms = dict.fromkeys(run.arm for run in found.results.runs)
    return [
        Column(found.name, _ARMS.get(arm, arm), _means(found.results, arm), _spent(runs))
        for arm in arms
        for runs in [[run for run in found.results.runs if run.arm == arm]]
    ]


def _means(results: Results, arm: str) -> dict[str, float]:
    runs = [run.figures for run in results.runs if run.arm == arm]
    keys = dict.fromkeys(key for figures in runs for key in figures)
    shared = [key for key in keys if all(key in figures for figures in runs)]
    return {key: sum(figures[key] for figures in runs) / len(runs) for key in shared}


def _spent(runs: Sequence[Run]) -> dict[str, str]:
    """Means of what pre-training took, where it is known."""
    known: dict[str, list[float]] = {
        "images seen": [run.images_seen for run in runs],
        "seconds of pre-training": [run.seconds for run in runs],
        "forward FLOPs of pre-training": [run.flops for run in runs],
    }
    told = {}
    for name, values in known.items():
        mean = sum(values) / len(values)
        if mean:
            told[name] = f"{mean:.2e}" if "FLOPs" in name else f"{mean:,.0f}"
    return told


def _evaluated(told: Mapping[str, Any]) -> dict[str, str]:
    compute = told["compute"]
    shown = f"forward FLOPs of an image of {compute['side']:.0f} px"
    return {
        "parameters": f"{compute['parameters']:,.0f}",
        shown: f"{compute['forward_flops']:.2e}",
        "seconds of evaluation": f"{sum(told['seconds'].values()):,.0f}",
    }


def figure_rows(
    shown: Sequence[Column], known: Mapping[str, MetricSpec]
) -> list[tuple[str, list[str]]]:
    """Name of each figure, its chance with it, and its value in each column; headlines first."""
    given = {key for column in shown for key in column.figures}
    # In the order of the tasks, but headlines before the others.
    ordered = sorted(known.keys() & given, key=_order(known).__getitem__)
    return [
        (
            task_name(known[key]) + _chance(known[key]),
            [level(known[key], column.figures.get(key, float("nan"))) for column in shown],
        )
        for key in ordered
    ]


def _order(known: Mapping[str, MetricSpec]) -> dict[str, tuple[bool, int]]:
    return {key: (not known[key].headline, place) for place, key in enumerate(known)}


def compute_rows(shown: Sequence[Column]) -> list[tuple[str, list[str]]]:
    """What each column cost, by name."""
    names = dict.fromkeys(name for column in shown for name in column.compute)
    return [(name, [column.compute.get(name, "") for column in shown]) for name in names]


def difference_rows(rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    """MetricSpec, difference and interval of each headline."""
    return [
        (task_name(row.figure), change(row.figure, row.difference), interval(row))
        for row in rows
        if row.figure.headline
    ]


def _chance(figure: MetricSpec) -> str:
    return f" (chance {level(figure, figure.chance)})" if figure.chance else ""
