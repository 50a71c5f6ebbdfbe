"""How a comparison was made, in words: settings, data, times, every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from sp_bench.report.number_format import level, task_name
from sp_bench.results import ARMS, BASELINE, SP, Results, Run

Facts = list[tuple[str, str]]


class Title(NamedTuple):
    """What the report is about; each part may be empty where the settings do not tell it."""

    method: str
    backbone: str
    data: str


class PerSeed(NamedTuple):
    """Every run's headline figures.

    Attributes:
        heads: ``seed 0`` and so on, in order.
        rows: Name of the figure, and for each seed its baseline and SP in words.
    """

    heads: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]


def title(results: Results) -> Title:
    """Method, backbone and data by name."""
    told = results.settings
    names = told.get("method", ""), told.get("backbone", ""), results.data.get("name", "")
    return Title(*map(str, names))


def facts(values: Any, prefix: str = "") -> Facts:
    """Nested plain values as pairs of dotted name and text.

    >>> facts({"size": None, "sp": {"area": [0.05, 0.32]}})
    [('size', 'default'), ('sp.area', '0.05, 0.32')]
    """
    if not isinstance(values, Mapping):
        return [(prefix, _text(values))] if values is not None or prefix else []
    start = f"{prefix}." if prefix else ""
    return [fact for key, value in values.items() for fact in facts(value, f"{start}{key}")]


def data_facts(data: Mapping[str, Any]) -> tuple[Facts, list[str]]:
    """The data's summary with the skipped files counted, and their names.

    >>> data_facts({"name": "demo", "skipped": ["a.jpg"]})
    ([('name', 'demo'), ('skipped', '1')], ['a.jpg'])
    """
    skipped = data.get("skipped", [])
    names = [str(name) for name in skipped] if isinstance(skipped, Sequence) else []
    count = len(names) if isinstance(skipped, Sequence) else skipped
    return facts({**data, "skipped": count}), names


def times(runs: Sequence[Run]) -> Facts:
    """Seconds and images of pre-training by arm, and what SP's cost is as a ratio.

    >>> runs = [Run("baseline", 0, seconds=10, images_seen=50), Run("sp", 0, seconds=15)]
    >>> times(runs)[-1]
    ('ratio, SP to baseline', '1.50')
    """
    told: Facts = []
    seconds = {arm: [run.seconds for run in runs if run.arm == arm] for arm in ARMS}
    seen = {arm: [run.images_seen for run in runs if run.arm == arm] for arm in ARMS}
    for arm, name in ((BASELINE, "baseline"), (SP, "SP")):
        if seconds[arm]:
            mean, images = fmean(seconds[arm]), fmean(seen[arm])
            told.append((name, f"{mean:,.0f} s, {images:,.0f} images seen"))
    if all(seconds.values()) and fmean(seconds[BASELINE]) > 0:
        ratio = fmean(seconds[SP]) / fmean(seconds[BASELINE])
        told.append(("ratio, SP to baseline", f"{ratio:.2f}"))
    return told


def per_seed(results: Results) -> PerSeed:
    """Every run's headline figures, side by side."""
    seeds = sorted({run.seed for run in results.runs})
    figures = [row.figure for row in results.rows if row.figure.headline]
    runs = {(run.arm, run.seed): run.figures for run in results.runs}

    def value(arm: str, seed: int, figure: Any) -> str:
        return level(figure, runs.get((arm, seed), {}).get(figure.key, float("nan")))

    rows = [
        (task_name(f), [(value(BASELINE, seed, f), value(SP, seed, f)) for seed in seeds])
        for f in figures
    ]
    return PerSeed([f"seed {seed}" for seed in seeds], rows)


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
