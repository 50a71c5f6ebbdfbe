"""Models ranked by the spatial and the semantic quality of their features, next to their cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from scipy.stats import rankdata

from sp_bench.report.number_format import MISSING
from sp_bench.report.run_table import RunFolder
from sp_bench.report.table import LEFT, Cell, Column, Table
from sp_bench.results import MetricSpec
from sp_bench.tasks import SEMANTIC, SPATIAL, all_tasks

QUALITIES = (SPATIAL, SEMANTIC)
NOTE = (
    "Mean rank over the tasks of a kind, 1 is best: a task's rank is the mean over its headline "
    "metrics, of values to three decimals, and equal ones share a rank. Ranks say nothing of "
    "distances, which are in the results. "
    "Random weights are a control and get no rank."
)


class RankedModel(NamedTuple):
    """One evaluation among others.

    Attributes:
        name: name of its folder.
        ranks: mean rank by kind of task; NaN where no task of the kind was measured for all.
        evaluation: content of ``eval.json``.
    """

    name: str
    ranks: Mapping[str, float]
    evaluation: Mapping[str, Any]

    @property
    def rank(self) -> float:
        """Mean over the kinds of tasks; infinite without any."""
        known = [rank for rank in self.ranks.values() if math.isfinite(rank)]
        return fmean(known) if known else math.inf


def rank_models(folders: Sequence[RunFolder]) -> list[RankedModel]:
    """The evaluations among these folders: the best first, those with random weights last.

    Comparisons of arms are left out, since they have paired intervals. If all weights are random,
    all are ranked.
    """
    found = [folder for folder in folders if folder.results is None]
    trained = [folder for folder in found if folder.evaluation["checkpoint"]["path"]] or found
    metrics = [folder.evaluation["metrics"] for folder in trained]
    by_quality = {quality: _mean_ranks(metrics, quality) for quality in QUALITIES}
    ranked = []
    for folder in found:
        position = next((i for i, other in enumerate(trained) if other is folder), None)
        ranks = {
            quality: math.nan if position is None else ranks[position]
            for quality, ranks in by_quality.items()
        }
        ranked.append(RankedModel(folder.name, ranks, folder.evaluation))
    return sorted(ranked, key=lambda model: model.rank)


def ranking_table(models: Sequence[RankedModel]) -> Table:
    """One row per model: its ranks, parameters, FLOPs, image size and normalisation.

    The best rank of a column is in bold type.
    """
    best = {
        quality: min((m.ranks[quality] for m in models), default=math.nan, key=_nan_last)
        for quality in QUALITIES
    }
    rows: list[list[Cell | str]] = []
    for model in models:
        compute, settings = model.evaluation["compute"], model.evaluation["settings"]
        cells = []
        for quality in QUALITIES:
            rank = model.ranks[quality]
            text = f"{rank:.2f}" if math.isfinite(rank) else MISSING
            cells.append(Cell(text, bold=rank == best[quality]))
        rows.append(
            [
                model.name,
                *cells,
                f"{compute['parameters'] / 1e6:.3g}",
                f"{compute['forward_flops'] / 1e9:.3g}",
                f"{compute['side']:.0f} px",
                _normalisation(settings),
            ]
        )
    names = (*(f"{quality} rank" for quality in QUALITIES), "M parameters", "GFLOPs", "image size")
    columns = [Column("model", LEFT), *map(Column, names), Column("mean; std", LEFT)]
    return Table(columns, rows, note=NOTE)


def ranked_metrics(quality: str) -> dict[str, list[MetricSpec]]:
    """Headline metrics that count for a quality, by task."""
    tasks = [task for task in all_tasks().values() if task.quality == quality]
    return {task.name: [metric for metric in task.metrics if metric.headline] for task in tasks}


def _mean_ranks(models: Sequence[Mapping[str, float]], quality: str) -> list[float]:
    """Mean rank of each model over the tasks that were measured for all of them."""
    of_tasks = []
    for metrics in ranked_metrics(quality).values():
        of_metrics = []
        for metric in metrics:
            values = [round(model.get(metric.key, math.nan), 3) for model in models]
            if all(map(math.isfinite, values)):
                sign = -1 if metric.higher_is_better else 1
                of_metrics.append(rankdata([sign * value for value in values]))
        if of_metrics:
            of_tasks.append([fmean(ranks) for ranks in zip(*of_metrics, strict=True)])
    if not of_tasks:
        return [math.nan] * len(models)
    return [fmean(ranks) for ranks in zip(*of_tasks, strict=True)]


def _normalisation(settings: Mapping[str, Any]) -> str:
    """Statistics by which images were normalised: one number for equal ones, the first of many."""
    if not settings.get("mean"):
        return "ImageNet's"
    texts = []
    for values in (settings["mean"], settings["std"]):
        shown = values[:1] if len(set(values)) == 1 else values[:3]
        texts.append(" ".join(f"{x:.3g}" for x in shown) + " ..." * (len(values) > 3))
    return "; ".join(texts).replace(" ", "\N{NO-BREAK SPACE}")


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
