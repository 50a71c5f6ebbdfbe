"""How a comparison was made: settings, data, cost, and every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from sp_bench.report.number_format import (
    format_difference,
    format_interval,
    format_value,
    metric_name,
    verdict,
)
from sp_bench.report.table import LEFT, Cell, Column, Table
from sp_bench.results import ARM_NAMES, BASELINE, LONGER, SP, Results, Row, Run
from sp_bench.stats import FEW_SEEDS, bootstrap_over_images, cost_ratio, unpack_correct


class Title(NamedTuple):
    """Subject of a report; a part that is not in the settings is empty."""

    method: str
    backbone: str
    data: str


def title(results: Results) -> Title:
    """Names of method, backbone and data."""
    settings = results.settings
    names = settings.get("method", ""), settings.get("backbone", ""), results.data.get("name", "")
    return Title(*map(str, names))


def facts_table(values: Mapping[str, Any] | None) -> Table:
    """Nested plain values, one row per dotted name.

    >>> facts_table({"size": None, "sp": {"area": [0.05, 0.32]}}).rows
    [('size', 'default'), ('sp.area', '0.05, 0.32')]
    """
    return Table([Column("", LEFT), Column("", LEFT)], _flatten(values or {}, ""))


def _flatten(values: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _text(value)))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)


def data_table(data: Mapping[str, Any]) -> tuple[Table, list[str]]:
    """Summary of the data with the number of skipped files, and the names of these.

    >>> table, names = data_table({"name": "demo", "skipped": ["a.jpg"]})
    >>> table.rows, names
    ([('name', 'demo'), ('skipped', '1')], ['a.jpg'])
    """
    skipped = data.get("skipped", [])
    if not isinstance(skipped, Sequence):
        return facts_table(data), []
    names = [str(name) for name in skipped]
    return facts_table({**data, "skipped": len(names)}), names


def cost_table(runs: Sequence[Run]) -> Table:
    """Mean time and images of pre-training per arm, and the time of SP as a ratio.

    >>> runs = [Run("baseline", 0, seconds=10, images_seen=50), Run("sp", 0, seconds=15)]
    >>> cost_table(runs).rows[-1]
    ('ratio, SP to baseline', '1.50')
    """
    rows = []
    for arm, name in ARM_NAMES.items():
        of_arm = [run for run in runs if run.arm == arm]
        if of_arm:
            seconds = fmean(run.seconds for run in of_arm)
            images = fmean(run.images_seen for run in of_arm)
            rows.append((name, f"{seconds:,.0f} s, {images:,.0f} images seen"))
    ratio = cost_ratio(runs, BASELINE, SP, "seconds")
    if math.isfinite(ratio):
        rows.append(("ratio, SP to baseline", f"{ratio:.2f}"))
    return Table([Column("", LEFT), Column("", LEFT)], rows)


def cost_ratios(runs: Sequence[Run]) -> str:
    """Cost of pre-training with SP relative to the baseline; empty where nothing is known.

    >>> runs = [Run("baseline", 0, seconds=10, flops=2e9), Run("sp", 0, seconds=15, flops=2.2e9)]
    >>> cost_ratios(runs)
    "1.10 times the baseline's forward FLOPs, 1.50 times the baseline's seconds"
    """
    units = {"flops": "forward FLOPs", "seconds": "seconds"}
    ratios = {unit: cost_ratio(runs, BASELINE, SP, key) for key, unit in units.items()}
    known = {unit: ratio for unit, ratio in ratios.items() if math.isfinite(ratio)}
    return ", ".join(f"{ratio:.2f} times the baseline's {unit}" for unit, ratio in known.items())


def cost_note(results: Results) -> str:
    """What SP cost, what it encodes, and whether a baseline got the same compute.

    Returns:
        The first of these alone where the settings of SP are unknown, as for checkpoints of other
        programs; empty where the cost is not known either.
    """
    ratios = cost_ratios(results.runs)
    notes = [f"Cost: {ratios}."] if ratios else []
    sp = results.settings.get("sp")
    if not sp:
        return " ".join(notes)
    if sp.get("source") == "host_views":
        notes.append("SP uses the views that the method encodes, and encodes no further crops.")
    elif "num_crops" in sp:
        share = sp.get("sample_fraction") or 1
        images = "each image" if share == 1 else f"{100 * share:.3g}% of the images of a batch"
        notes.append(f"SP encodes {sp['num_crops']} more crops of {images}.")
    epochs = longer_epochs(results.runs)
    if results.longer:
        trained = f", {epochs} in total" if epochs else ""
        notes.append(f"The longer baseline spends the operations of SP on more epochs{trained}.")
    else:
        notes.append("The baseline does not train longer to make up for the cost of SP.")
    return " ".join(notes)


def longer_epochs(runs: Sequence[Run]) -> str:
    """Number of epochs of the longer baseline; empty where that is unknown.

    >>> longer_epochs([Run("longer", 0, curve=[{"epoch": 0}, {"epoch": 1}])])
    '2'
    """
    counts = {len(run.curve) for run in runs if run.arm == LONGER and run.curve}
    return " or ".join(str(count) for count in sorted(counts))


def seed_table(results: Results) -> Table:
    """Headline metrics of every run: one group of columns per seed."""
    runs = {(run.arm, run.seed): run.metrics for run in results.runs}
    seeds = sorted({seed for _, seed in runs})
    names = {BASELINE: "baseline", SP: "SP"}
    if any(run.arm == LONGER for run in results.runs):
        names[LONGER] = "longer"
    columns = [Column("", LEFT)]
    for seed in seeds:
        columns += [Column(name, group=f"seed {seed}") for name in names.values()]
    rows = []
    for row in results.rows:
        if row.metric.headline:
            values = [
                runs.get((arm, seed), {}).get(row.metric.key, float("nan"))
                for seed in seeds
                for arm in names
            ]
            texts = [format_value(row.metric, value) for value in values]
            rows.append((metric_name(row.metric), *texts))
    return Table(columns, rows)


def image_bootstrap_table(results: Results) -> Table | None:
    """Differences of every seed with a bootstrap over test images, where seeds are few.

    Metrics are those whose tasks stored which images were classified correctly (`Run.correct`).

    Args:
        results: of a comparison.

    Returns:
        None with `FEW_SEEDS` or more, or where nothing was stored.
    """
    runs = {(run.arm, run.seed): run for run in results.runs}
    pairs = {
        seed: (runs[BASELINE, seed], runs[SP, seed])
        for seed in sorted({seed for _, seed in runs})
        if (BASELINE, seed) in runs and (SP, seed) in runs
    }
    rows: list[list[Cell | str]] = []
    for metric in (row.metric for row in results.rows):
        cells = []
        for pair in pairs.values():
            texts = [run.correct.get(metric.key, "") for run in pair]
            if not all(texts):
                break
            found = bootstrap_over_images(unpack_correct(texts[0]), unpack_correct(texts[1]))
            row = Row(metric, math.nan, math.nan, found.difference, found.low, found.high, 0)
            value = format_difference(metric, found.difference)
            cells.append(Cell(value, bool(verdict(row)), format_interval(row)))
        else:
            rows.append([metric_name(metric), *cells])
    if not rows or len(pairs) >= FEW_SEEDS:
        return None
    return Table([Column("", LEFT), *(Column(f"seed {seed}") for seed in pairs)], rows)
