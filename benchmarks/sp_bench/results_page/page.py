"""docs/results.md and the README's table, from the evidence of all suites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sp_bench.errors import UsageError
from sp_bench.report.comparison_table import goals_table, known_metrics
from sp_bench.report.mpl_style import save_figure
from sp_bench.results import BASELINE, LONGER, SP, MetricSpec
from sp_bench.results_page import tables
from sp_bench.results_page.cost_figure import cost_figure
from sp_bench.results_page.forests import methods_figure
from sp_bench.results_page.goals import goals
from sp_bench.results_page.reading import headlines, measured_keys, with_sp
from sp_bench.sweeps.collect import Evidence

Suites = Mapping[str, Sequence[Evidence]]

BEGIN, END = "<!-- results: made by sp-bench results -->", "<!-- end of results -->"

_INTRODUCTION = """# What SP changes

`sp-bench results` generates this page from the JSON in `benchmarks/results`; no number in its
tables was typed. The text of a section is the suite's `notes.md`. Shares are in percent, their
differences (SP less baseline, paired by seed) in points, R2 in its own unit. Brackets contain the
95% t interval of the paired differences, bold type marks significant ones: the interval excludes 0.
A check mark (in the tables of one method: "yes") means that the difference also survives Benjamini
and Hochberg's correction at a false discovery rate of 5%. Its family are all differences of one
table; the column of means over methods is a family of its own.
Intervals of three seeds are wide, and one seed has none. The mean over methods counts each method
once; its interval describes the expected difference for a further method. Nothing here reproduces
a number of the paper.
"""
_PAIRS = """## Pairs

Held-out images of the demo world, and the prediction of SP's own head after `make demo`.

![](pairs.png)
"""
_README_METRICS = (
    "knn",
    "linear",
    "robustness_v2",
    "robustness",
    "pair_equal_gain",
    "pair_interaction_gain",
    "pair_interaction_beyond",
    "jigsaw_3x3_piece",
    "fine_grained_linear",
    "segmentation_miou",
    "depth_rmse",
)
_TRIAL_METRICS = (
    "knn",
    "linear",
    "robustness_v2",
    "robustness",
    "robustness_blur_v2",
    "robustness_noise_v2",
    "robustness_blur",
    "robustness_noise",
    "pair_equal_gain",
    "pair_dy_gain",
    "pair_scale_gain",
    "pair_interaction_gain",
    "jigsaw_2x2_piece",
    "jigsaw_2x2_perfect",
    "jigsaw_3x3_piece",
)
_COST_METRICS = ("jigsaw_2x2_perfect", "jigsaw_3x3_piece", "knn", "linear")
_ARMS = {
    "longer": "The baseline with SP's extra compute spent on more epochs.",
    "unsupervised": "SP's crops and passes with targets of other images: what the views do alone.",
    "sp-full": "SP on every image of each batch, the setting of the first finals.",
    "augself": "AugSelf: predicts how the crops of the method's own two views differ.",
    "relative_location": "Relative location instead of SP: predicts one of eight directions.",
}
_TITLES = {
    "scenes": "Photographs of scenes",
    "scenes-indoors": "Rooms: the same networks on masks of NYU Depth v2",
    "small-1000": "1,000 photographs, trained to the plateau",
    "small-2000": "2,000 photographs, trained to the plateau",
    "small-5000": "5,000 photographs, trained to the plateau",
    "one_gpu": "STL-10 on one GPU",
    "pair_interaction": "What two crops predict jointly",
    "cifar": "CIFAR-10",
    "tune": "Trials",
    "tune-cost": "Trials of a part of each batch",
    "tune-small": "Trials on 1,000 photographs",
    "tune-first": "Earlier trials",
}


def page(suites: Suites, folder: Path, has_pairs: bool = False) -> str:
    """The results page in Markdown.

    Args:
        suites: evidence by suite.
        folder: folder of the JSON files; the ``notes.md`` of a suite there is put in its section.
        has_pairs: whether there is a figure of pairs next to the page; default False.
    """
    parts, shown = [_INTRODUCTION], _shown(suites)
    for suite in sorted(shown, key=_order):
        notes = folder / suite / "notes.md"
        parts += [f"## {_TITLES.get(suite, suite)}\n", _circumstances(shown[suite])]
        if notes.exists():
            parts.append(notes.read_text())
        parts += (
            _trials(suite, shown[suite]) if _is_trials(suite) else _results(suite, shown[suite])
        )
    if has_pairs:
        parts.append(_PAIRS)
    return "\n".join(part for part in parts if part)


def write_figures(suites: Suites, folder: Path) -> list[Path]:
    """Write a figure per suite, and return the files: forest plots, and gain against cost."""
    paths = []
    for suite, methods in _shown(suites).items():
        if not _is_trials(suite):
            figure = methods_figure(methods, headlines(methods))
        elif of_cost := _with_longer(methods):
            figure = cost_figure(of_cost, _measured(_COST_METRICS, of_cost))
        else:
            continue
        paths.append(folder / f"{suite}.png")
        save_figure(figure, paths[-1])
    return paths


def insert_table(readme: str, suites: Suites) -> str:
    """The README with the table of the first suite between its markers.

    Raises:
        UsageError: a marker is missing, or there are only trials.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"readme: no {BEGIN} and {END} in it; the table stands between them")
    shown = _shown(suites)
    suite = min(shown, key=_order, default="")
    if not suite or _is_trials(suite):
        raise UsageError("readme: of trials alone there is no table; takes a suite with SP")
    methods = shown[suite]
    table = tables.side_by_side(methods, _measured(_README_METRICS, methods), BASELINE, SP)
    return f"{before}{begin}\n{table.to_markdown()}\n{_circumstances(methods)}\n{end}{after}"


def _is_trials(suite: str) -> bool:
    return suite.startswith("tune")


def _with_longer(methods: Sequence[Evidence]) -> list[Evidence]:
    """The methods that have the control at equal cost, without which cost means nothing."""
    return [evidence for evidence in methods if LONGER in evidence.arms]


def _order(suite: str) -> tuple[bool, bool, str]:
    return _is_trials(suite), suite != "scenes", suite


def _shown(suites: Suites) -> Suites:
    """Trials as they are; of other suites the methods that have a difference."""
    shown = {
        suite: methods if _is_trials(suite) else with_sp(methods)
        for suite, methods in suites.items()
    }
    return {suite: methods for suite, methods in shown.items() if methods}


def _fold(title: str, *parts: str) -> str:
    """Parts that are closed until the reader opens them."""
    return "\n".join([f"<details>\n<summary>{title}</summary>\n", *parts, "</details>\n"])


def _results(suite: str, methods: Sequence[Evidence]) -> list[str]:
    """Differences over all methods first; goals, other arms and single methods are closed."""
    metrics = headlines(methods)
    table = tables.side_by_side(methods, metrics, BASELINE, SP)
    parts = [f"### SP less baseline\n\n![]({suite}.png)\n", table.to_markdown()]
    of_suite = goals(methods)
    if any(goal.met is not None for goal in of_suite):
        parts.append(_fold("Goals", goals_table(of_suite).to_markdown()))
    for arm in tables.arm_names(methods):
        table = tables.side_by_side(methods, metrics, arm, SP)
        if arm not in (BASELINE, SP) and table.rows:
            parts.append(_fold(f"SP less {arm}", f"{_ARMS.get(arm, arm)}\n", table.to_markdown()))
    for evidence in methods:
        table = tables.one_method(evidence, metrics)
        parts.append(_fold(tables.method_name(evidence), table.to_markdown()))
    return parts


def _trials(suite: str, methods: Sequence[Evidence]) -> list[str]:
    """The figure of gain against cost; trials per method, with their predictions, are closed."""
    metrics = _measured(_TRIAL_METRICS, methods)
    parts = [f"![]({suite}.png)\n"] if _with_longer(methods) else []
    for evidence in methods:
        predictions = tables.predictions(evidence)
        if predictions:
            predictions = f"Predictions, written before the runs:\n\n{predictions}"
        name = tables.method_name(evidence)
        table = tables.trials(evidence, metrics).to_markdown()
        parts.append(_fold(f"{name}: trial less baseline", table, predictions))
        if LONGER in evidence.arms:
            table = tables.trials(evidence, metrics, LONGER).to_markdown()
            parts.append(_fold(f"{name}: trial less {LONGER}", _ARMS[LONGER] + "\n", table))
    return parts


def _measured(keys: Sequence[str], methods: Sequence[Evidence]) -> list[MetricSpec]:
    """The metrics of these keys that some run has."""
    known = {metric.key: metric for metric in (*known_metrics().values(), *headlines(methods))}
    measured = measured_keys(methods)
    return [known[key] for key in keys if key in measured and key in known]


def _circumstances(methods: Sequence[Evidence]) -> str:
    """Command, data, budget, dates, device and versions, from the first method."""
    first = methods[0]
    settings, machine = first.settings, first.machine
    dates = sorted(date for evidence in methods for date in evidence.dates)
    period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    versions = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    return (
        f"`{first.command}`: {first.data['name']}, "
        f"{first.data['train']:,} training images, {first.data['test']:,} held out, "
        f"{first.epochs} epochs, batches of {settings['batch_size']}, views of "
        f"{settings['side']} px. {period}, {machine['device']} ({machine['processor']}), "
        f"{machine['precision']}; {versions}.\n"
    )
