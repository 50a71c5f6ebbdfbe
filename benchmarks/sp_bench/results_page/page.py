"""docs/results.md and the README's table, whole, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sp_bench.errors import UsageError
from sp_bench.report.table import known_figures, markdown_row
from sp_bench.results import BASELINE, SP, MetricSpec
from sp_bench.results_page import cells, forests
from sp_bench.results_page.goals import goals
from sp_bench.results_page.reading import headlines, paired
from sp_bench.sweeps.collect import Evidence

BEGIN, END = "<!-- results: made by sp-bench results -->", "<!-- end of results -->"

_INTRODUCTION = """# What SP changes

Made by `sp-bench results` from the JSON in `benchmarks/results`; no figure in its tables was typed.
What is said in words of a suite is its `notes.md` there. Shares are in percent, their differences
(SP less baseline, paired by seed) in points, R2 as it is. In brackets the 95% t interval of the
paired differences; bold where it excludes 0. With three seeds it is wide, as it must be; one seed
has none. In the mean over hosts each counts once, and the interval is of hosts: what to expect
beside another. Of the paper nothing is claimed.
"""
_PAIRS = """## Pairs

Held-out images of the demo world, and what SP's own head says of them after `make demo`.

![](pairs.png)
"""
_SHORT = ("knn", "linear", "robustness", "pair_equal_gain", "jigsaw_3x3_piece",
          "fine_grained_linear", "segmentation_miou", "depth_rmse")  # fmt: skip
_TRIED = ("knn", "linear", "robustness", "robustness_blur", "robustness_noise", "pair_equal_gain",
          "pair_dy_gain", "pair_scale_gain", "jigsaw_3x3_piece")  # fmt: skip
_OTHERS = {
    "longer": "the baseline, given SP's extra compute as more epochs",
    "augself": "AugSelf-style: how the crops of the method's own two views differ",
    "relative_location": "relative location in SP's place: one of eight directions",
}
_WORDS = {
    "scenes": "Photographs of scenes",
    "relation": "What two crops tell together",
    "cifar": "CIFAR-10",
    "tune": "Trials",
    "tune-first": "Trials before these",
}


def _is_trials(suite: str) -> bool:
    return suite.startswith("tune")


def _place(suite: str) -> tuple[bool, bool, str]:
    return _is_trials(suite), suite != "scenes", suite


def _shown(found: Mapping[str, Sequence[Evidence]]) -> dict[str, Sequence[Evidence]]:
    """Suites of trials whole, of others the hosts of which there is a difference to tell."""
    shown = {suite: hosts if _is_trials(suite) else paired(hosts) for suite, hosts in found.items()}
    return {suite: hosts for suite, hosts in shown.items() if hosts}


def page(found: Mapping[str, Sequence[Evidence]], folder: Path, pairs: bool = False) -> str:
    """The results page.

    Args:
        found: evidence by suite.
        folder: that the JSON was read from; a suite's ``notes.md`` there is put in its section.
        pairs: whether an image of pairs lies beside the page.
    """
    parts, shown = [_INTRODUCTION], _shown(found)
    for suite in sorted(shown, key=_place):
        section = _trials if _is_trials(suite) else _section
        parts.append(section(suite, shown[suite], _notes(folder / suite)))
    return "\n".join([*parts, _PAIRS] if pairs else parts)


def images(found: Mapping[str, Sequence[Evidence]], folder: Path) -> list[Path]:
    """The forest plot of each suite that is no suite of trials; the files that were written."""
    paths = []
    for suite, hosts in _shown(found).items():
        if not _is_trials(suite):
            paths.append(folder / f"{suite}.png")
            forests.save(forests.forests(hosts, headlines(hosts)), paths[-1])
    return paths


def readme(text: str, found: Mapping[str, Sequence[Evidence]]) -> str:
    """The README with the table of the first suite between its marks.

    Raises:
        UsageError: it has no such marks, or there are suites of trials alone.
    """
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise UsageError(f"readme: no {BEGIN} and {END} in it; the table stands between them")
    shown = _shown(found)
    suite = min(shown, key=_place, default="")
    if not suite or _is_trials(suite):
        raise UsageError("readme: of trials alone there is no table; takes a suite with SP")
    hosts = shown[suite]
    table = cells.beside(hosts, _some(_SHORT, hosts), BASELINE, SP)
    return f"{before}{mark}\n{table}\n{_circumstances(hosts)}\n{end}{after}"


def _section(suite: str, hosts: Sequence[Evidence], notes: str) -> str:
    figures = headlines(hosts)
    parts = [f"## {_WORDS.get(suite, suite)}\n", _circumstances(hosts), notes]
    wanted = goals(hosts)
    if any(goal.met is not None for goal in wanted):
        head = markdown_row(("goal", "furthest from it", "")) + "|---|---|---|\n"
        told = [markdown_row((goal.text, goal.worst, goal.verdict)) for goal in wanted]
        parts += ["### Goals\n", head + "".join(told)]
    parts += [
        f"### SP less baseline\n\n![]({suite}.png)\n",
        cells.beside(hosts, figures, BASELINE, SP),
    ]
    for arm in cells.arms_of(hosts):
        if arm in (BASELINE, SP):
            continue
        what = _OTHERS.get(arm, arm)
        parts += [f"### SP less {arm}\n", f"{what[0].upper()}{what[1:]}.\n"]
        parts.append(cells.beside(hosts, figures, arm, SP))
    for each in hosts:
        parts += [f"### {cells.host_name(each)}\n", cells.whole(each, figures)]
    return "\n".join(part for part in parts if part)


def _trials(suite: str, hosts: Sequence[Evidence], notes: str) -> str:
    figures = _some(_TRIED, hosts)
    parts = [f"## {_WORDS.get(suite, suite)}\n", _circumstances(hosts), notes]
    for each in hosts:
        parts += [
            f"### {cells.host_name(each)}: trial less baseline\n",
            cells.trials(each, figures),
        ]
        if predicted := cells.predictions(each):
            parts += ["Predicted, before they were run:\n", predicted]
    return "\n".join(part for part in parts if part)


def _some(keys: Sequence[str], hosts: Sequence[Evidence]) -> list[MetricSpec]:
    every = {figure.key: figure for figure in (*known_figures().values(), *headlines(hosts))}
    had = {key for each in hosts for run in each.runs for key in run.figures}
    return [every[key] for key in keys if key in had and key in every]


def _circumstances(hosts: Sequence[Evidence]) -> str:
    """Data, budget, device, date, versions and command, from the first host."""
    first = hosts[0]
    told, made = first.settings, first.machine
    dates = sorted(date for each in hosts for date in each.dates)
    days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    versions = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    return (
        f"`{first.command}`: {first.data['name']}, "
        f"{first.data['train']:,} images to train on, {first.data['test']:,} held out, "
        f"{first.epochs} epochs, batches of {told['batch_size']}, views of {told['side']} px. "
        f"{days}, {made['device']} ({made['processor']}), {made['precision']}; {versions}.\n"
    )


def _notes(folder: Path) -> str:
    path = folder / "notes.md"
    return path.read_text() if path.exists() else ""
