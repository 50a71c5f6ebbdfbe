"""Finished runs side by side: one column per backbone or arm, one row per metric."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple

from sp_bench.errors import UsageError
from sp_bench.report.comparison_table import known_metrics
from sp_bench.report.number_format import format_value, name_with_chance
from sp_bench.report.table import LEFT, Column, Table
from sp_bench.results import ARM_NAMES, MetricSpec, Results, Run

SIZE, DATA, CHECKPOINT = "image size", "data", "checkpoint"
_EVALUATION, _COMPARISON = "eval.json", "results.json"


@dataclass(frozen=True)
class RunFolder:
    """The content of one folder of ``compare`` or ``eval``.

    Attributes:
        name: name of the folder.
        results: results of a comparison; None for an evaluation.
        evaluation: content of ``eval.json``; empty for a comparison.
    """

    name: str
    results: Results | None
    evaluation: dict[str, Any] = field(default_factory=dict)


class RunSummary(NamedTuple):
    """One backbone, or the mean of an arm over seeds.

    Attributes:
        folder: name of the folder.
        name: name of the arm, or of the backbone.
        metrics: values by key.
        compute: its cost where known, as text by name.
        conditions: image size, data and checkpoint where known, as text by name.
    """

    folder: str
    name: str
    metrics: Mapping[str, float]
    compute: dict[str, str]
    conditions: Mapping[str, str] = MappingProxyType({})


def read_run_folder(path: Path) -> RunFolder:
    """Read the folder of a comparison or of an evaluation.

    Raises:
        UsageError: it is neither, or not finished.
    """
    name = path.resolve().name
    try:
        if (path / _COMPARISON).is_file():
            return RunFolder(name, Results.load(path / _COMPARISON))
        if (path / _EVALUATION).is_file():
            return RunFolder(name, None, json.loads((path / _EVALUATION).read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"report: {path} cannot be read: {error!r}") from error
    if not path.is_dir():
        raise UsageError(f"report: {path} is not there; takes folders of compare or eval")
    if (path / "settings.json").is_file():
        raise UsageError(f"report: {path} is not finished; run its command again")
    raise UsageError(f"report: {path} is no folder of compare or eval")


def summarize(folders: Sequence[RunFolder]) -> list[RunSummary]:
    """The columns of all folders, in the given order."""
    summaries = []
    for folder in folders:
        if folder.results is None:
            summaries.append(_summarize_evaluation(folder.name, folder.evaluation))
        else:
            summaries += _summarize_comparison(folder.name, folder.results)
    return summaries


def _summarize_evaluation(folder: str, evaluation: Mapping[str, Any]) -> RunSummary:
    untrained = "" if evaluation["checkpoint"]["path"] else ", random"
    backbone = evaluation["settings"]["backbone"]
    if backbone.startswith(("hf:/", "hf:.", "hf:~")):  # a folder of this machine
        backbone = f"hf:{Path(backbone).name}"
    name = backbone + untrained
    compute = evaluation["compute"]
    flops_name = f"forward FLOPs of an image of {compute['side']:.0f} px"
    cost = {
        "parameters": f"{compute['parameters']:,.0f}",
        flops_name: f"{compute['forward_flops']:.2e}",
        "seconds of evaluation": f"{sum(evaluation['seconds'].values()):,.0f}",
    }
    settings = evaluation["settings"]
    sources = [settings.get("data") or "", *settings.get("task_data", {}).values()]
    conditions = {
        SIZE: f"{settings['side']} px" if settings.get("side") else "",
        DATA: ", ".join(dict.fromkeys(Path(source).name for source in sources if source)),
        CHECKPOINT: evaluation["checkpoint"]["path"] or "none",
    }
    return RunSummary(folder, name, evaluation["metrics"], cost, conditions)


def _summarize_comparison(folder: str, results: Results) -> list[RunSummary]:
    summaries = []
    for arm in dict.fromkeys(run.arm for run in results.runs):
        runs = [run for run in results.runs if run.arm == arm]
        name = ARM_NAMES.get(arm, arm)
        checkpoints = dict.fromkeys(Path(run.checkpoint).name for run in runs if run.checkpoint)
        conditions = {
            SIZE: f"{results.settings['side']} px" if results.settings.get("side") else "",
            DATA: str(results.data.get("name", "")),
            CHECKPOINT: ", ".join(checkpoints),
        }
        summaries.append(
            RunSummary(folder, name, _mean_metrics(runs), _mean_cost(runs), conditions)
        )
    return summaries


def mixture_note(summaries: Sequence[RunSummary]) -> str:
    """A warning where columns differ in image size or data; empty if they agree.

    >>> one = RunSummary("a", "SP", {}, {}, {"image size": "48 px"})
    >>> mixture_note([one, one._replace(conditions={"image size": "224 px"})])
    'Not comparable across columns: they differ in image size (48 px and 224 px).'
    """
    parts = []
    for name in (SIZE, DATA):
        values = dict.fromkeys(s.conditions[name] for s in summaries if s.conditions.get(name))
        if len(values) > 1:
            parts.append(f"{name} ({' and '.join(values)})")
    return f"Not comparable across columns: they differ in {', '.join(parts)}." if parts else ""


def _mean_metrics(runs: Sequence[Run]) -> dict[str, float]:
    shared = [key for key in runs[0].metrics if all(key in run.metrics for run in runs)]
    return {key: fmean(run.metrics[key] for run in runs) for key in shared}


def _mean_cost(runs: Sequence[Run]) -> dict[str, str]:
    """Mean cost of pre-training, where it is known."""
    means = {
        "images seen": fmean(run.images_seen for run in runs),
        "seconds of pre-training": fmean(run.seconds for run in runs),
        "forward FLOPs of pre-training": fmean(run.flops for run in runs),
    }
    return {
        name: f"{mean:.2e}" if "FLOPs" in name else f"{mean:,.0f}"
        for name, mean in means.items()
        if mean
    }


def measured_metrics(summaries: Sequence[RunSummary]) -> list[MetricSpec]:
    """The shown metrics that some column has: headlines first, then the others, in task order."""
    measured = {key for summary in summaries for key in summary.metrics}
    known = known_metrics().values()
    metrics = [metric for metric in known if metric.key in measured and metric.shown]
    return sorted(metrics, key=lambda metric: not metric.headline)


def run_table(
    summaries: Sequence[RunSummary], metrics: Sequence[MetricSpec], *, compute: bool = False
) -> Table:
    """One column per summary, one row per metric and, optionally, per kind of cost.

    Args:
        summaries: columns, grouped by folder.
        metrics: rows; a value that was not measured is a dash.
        compute: whether rows for the cost follow; default False.
    """
    rows = [
        (
            name_with_chance(metric),
            *(format_value(metric, s.metrics.get(metric.key, float("nan"))) for s in summaries),
        )
        for metric in metrics
    ]
    if metrics:
        for name in (SIZE, DATA, CHECKPOINT):
            texts = [s.conditions.get(name, "") for s in summaries]
            if any(texts):
                rows.append((name, *texts))
    if compute:
        names = dict.fromkeys(name for summary in summaries for name in summary.compute)
        rows += [(name, *(s.compute.get(name, "") for s in summaries)) for name in names]
    columns = [Column(summary.name, group=summary.folder) for summary in summaries]
    heading = "metric" if metrics else ""
    return Table([Column(heading, LEFT), *columns], rows)
