"""docs/results.md and the README's table, from the evidence of all suites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sp_bench.errors import UsageError
from sp_bench.report.comparison_table import goals_table, known_metrics
from sp_bench.report.mpl_style import save_figure
from sp_bench.results import BASELINE, LONGER, SP, MetricSpec
from sp_bench.results_page import tables
from sp_bench.results_page.answers import answers_table
from sp_bench.results_page.cost_figure import cost_figure
from sp_bench.results_page.forests import methods_figure
from sp_bench.results_page.goals import goals
from sp_bench.results_page.goals_at_equal_cost import goals_at_equal_cost
from sp_bench.results_page.names import ARMS, TITLES
from sp_bench.results_page.reading import count_seeds, headlines, measured_keys, with_sp
from sp_bench.sweeps.collect import Evidence

Suites = Mapping[str, Sequence[Evidence]]

BEGIN, END = "<!-- results: made by sp-bench results -->", "<!-- end of results -->"

_INTRODUCTION = """# What SP changes

`sp-bench results` generates this page from the JSON in `benchmarks/results`; no number in its
tables was typed. The text of a section is the suite's `notes.md`. Shares are in percent, their
differences (SP less baseline, paired by seed) in points, R2 in its own unit. Brackets contain the
95% t interval of the paired differences, bold type marks significant ones: the interval excludes 0.
A check mark means that the difference also survives Benjamini and Hochberg's correction at a false
discovery rate of 5%. Its family are all differences of one table, over all methods; the column of
means over methods is a family of its own.
Intervals of three seeds are wide, and one seed has none. The mean over methods counts each method
once; its interval describes the expected difference for a further method. Nothing here reproduces
a number of the paper.
"""
_PAIRS = """## Pairs

Held-out images of the demo world, and the prediction of SP's own head after `make demo`.

![](pairs.png)
"""
_MAIN_METRICS = (
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


def page(suites: Suites, folder: Path, has_pairs: bool = False) -> str:
    """The results page in Markdown.

    Args:
        suites: evidence by suite.
        folder: folder of the JSON files; the ``notes.md`` of a suite there is put in its section.
        has_pairs: whether there is a figure of pairs next to the page; default False.
    """
    parts, shown = [_INTRODUCTION], _shown(suites)
    for suite in _in_order(shown):
        notes = folder / suite / "notes.md"
        parts += [f"## {TITLES.get(suite, suite)}\n", _circumstances(shown[suite])]
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
            if at_equal_cost := _sp_and_longer(methods):
                metrics = _measured(_MAIN_METRICS, at_equal_cost)
                paths.append(folder / f"{suite}-{LONGER}.png")
                save_figure(methods_figure(at_equal_cost, metrics, LONGER), paths[-1])
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
    suite = next(iter(_in_order(shown)), "")
    if not suite or _is_trials(suite):
        raise UsageError("readme: of trials alone there is no table; takes a suite with SP")
    methods = shown[suite]
    if at_equal_cost := _sp_and_longer(methods):
        table = _answers(at_equal_cost)
    else:
        metrics = _measured(_MAIN_METRICS, methods)
        table = tables.side_by_side(methods, metrics, BASELINE, SP).to_markdown()
    return f"{before}{begin}\n{table}\n{_budget(methods)}.\n\n{end}{after}"


def _answers(methods: Sequence[Evidence]) -> str:
    table = answers_table(methods)
    return f"{table.to_markdown()}\n{table.note}\n"


def _is_trials(suite: str) -> bool:
    return suite.startswith("tune")


def _with_longer(methods: Sequence[Evidence]) -> list[Evidence]:
    """The methods that have the control at equal cost, without which cost means nothing."""
    return [evidence for evidence in methods if LONGER in evidence.arms]


def _sp_and_longer(methods: Sequence[Evidence]) -> list[Evidence]:
    """The methods that have a seed with SP and one of ``longer``."""
    return [evidence for evidence in methods if count_seeds(evidence, LONGER)]


def _in_order(suites: Suites) -> list[str]:
    """Names of suites: those that answer at equal cost first, trials last."""

    def key(suite: str) -> tuple[bool, bool, bool, str]:
        has_longer = bool(_sp_and_longer(suites[suite]))
        return _is_trials(suite), not has_longer, suite != "scenes", suite

    return sorted(suites, key=key)


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
    at_equal_cost = _sp_and_longer(methods)
    parts = []
    if at_equal_cost:
        parts += [_answers(at_equal_cost)]
        parts += [f"### SP less {LONGER}, at equal cost\n\n![]({suite}-{LONGER}.png)\n"]
    parts += [f"### SP less baseline\n\n![]({suite}.png)\n", table.to_markdown()]
    of_suite = goals_at_equal_cost(at_equal_cost) if at_equal_cost else goals(methods)
    if any(goal.met is not None for goal in of_suite):
        parts.append(_fold("Goals", goals_table(of_suite).to_markdown()))
    for arm in tables.arm_names(methods):
        table = tables.side_by_side(methods, metrics, arm, SP)
        if arm not in (BASELINE, SP) and table.rows:
            parts.append(_fold(f"SP less {arm}", f"{ARMS.get(arm, arm)}\n", table.to_markdown()))
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
            parts.append(_fold(f"{name}: trial less {LONGER}", ARMS[LONGER] + "\n", table))
    return parts


def _measured(keys: Sequence[str], methods: Sequence[Evidence]) -> list[MetricSpec]:
    """The metrics of these keys that some run has."""
    known = {metric.key: metric for metric in (*known_metrics().values(), *headlines(methods))}
    measured = measured_keys(methods)
    return [known[key] for key in keys if key in measured and key in known]


def _circumstances(methods: Sequence[Evidence]) -> str:
    """What `_budget` says, and the versions of the libraries."""
    versions = (
        f"{name} {_by_method(methods, [e.versions.get(name, 'none') for e in methods])}"
        for name in methods[0].versions
    )
    return f"{_budget(methods)}; {', '.join(versions)}.\n"


def _budget(methods: Sequence[Evidence]) -> str:
    """Command, data, budget, dates and device."""
    first = methods[0]
    dates = sorted(date for evidence in methods for date in evidence.dates)
    period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"

    def of(read: Callable[[Evidence], object]) -> str:
        return _by_method(methods, [read(evidence) for evidence in methods])

    return (
        f"`{first.command}`: {of(lambda e: e.data['name'])}, "
        f"{of(lambda e: format(e.data['train'], ','))} training images, "
        f"{of(lambda e: format(e.data['test'], ','))} held out, "
        f"{of(lambda e: e.epochs)} epochs, batches of {of(lambda e: e.settings['batch_size'])}, "
        f"views of {of(lambda e: e.settings['side'])} px. {period}, "
        f"{of(lambda e: e.machine['device'] + ' (' + e.machine['processor'] + ')')}, "
        f"{of(lambda e: e.machine['precision'])}"
    )


def _by_method(methods: Sequence[Evidence], facts: Sequence[object]) -> str:
    """A fact of the first method, and after it the methods for which it is another one."""
    fact, *others = facts
    differing = [
        f"{evidence.settings['method']} {other}"
        for evidence, other in zip(methods[1:], others, strict=True)
        if other != fact
    ]
    return f"{fact}" + (f" ({', '.join(differing)})" if differing else "")
