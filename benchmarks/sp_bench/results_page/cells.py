"""Tables of the results page: hosts beside each other, arms beside each other, trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sp_bench.report.number_format import change, interval, level, task_name, verdict
from sp_bench.report.table import HEADER, lines, markdown_row
from sp_bench.results import BASELINE, SP, MetricSpec, Row, Run
from sp_bench.results_page.reading import seeds_of
from sp_bench.stats import over_hosts, rows
from sp_bench.sweeps.collect import Evidence
from sp_plugin import SPConfig

OVER_HOSTS = "mean over hosts"
_COST = "cost: forward FLOPs of pre-training, as a ratio"


def arms_of(hosts: Sequence[Evidence]) -> list[str]:
    """Every arm that one of the hosts has, in the order in which they come."""
    return list(dict.fromkeys(arm for each in hosts for arm in each.arms))


def host_name(evidence: Evidence) -> str:
    """The method and its backbone."""
    return f"{evidence.settings['method']}, {evidence.settings['backbone']}"


def beside(
    hosts: Sequence[Evidence], figures: Sequence[MetricSpec], baseline: str, arm: str
) -> str:
    """A row for each figure and a column for each host: difference and interval; seeds and cost.

    Two hosts and more have their mean in a last column.

    Args:
        hosts: columns; one without a seed in both arms is left out.
        figures: rows.
        baseline, arm: the difference is the arm's less the baseline's.
    """
    made = [
        (each, rows(each.runs, figures, baseline, arm))
        for each in hosts
        if seeds_of(each, baseline, arm)
    ]
    mean = [OVER_HOSTS] * (len(made) > 1)
    names = [*(host_name(each) for each, _ in made), *mean]
    out = [markdown_row(["task", *names]), "|---|", "--:|" * len(names), "\n"]
    for place, figure in enumerate(figures):
        found = [each[place] for _, each in made]
        cells = [_cell(row) for row in [*found, *(over_hosts(found) for _ in mean)]]
        out.append(markdown_row([task_name(figure), *cells]))
    seeds = [str(seeds_of(each, baseline, arm)) for each, _ in made]
    out.append(markdown_row(["seeds", *seeds, *("" for _ in mean)]))
    costs = [_cost(each.runs, baseline, arm) for each, _ in made]
    if any(costs):
        out.append(markdown_row([_COST, *costs, *("" for _ in mean)]))
    return "".join(out) if made else ""


def _cost(runs: Sequence[Run], baseline: str, arm: str) -> str:
    """What pre-training counted in one arm over the other; nothing where it was not counted."""
    counted = {run.arm: run.flops for run in runs}
    spent, usual = counted.get(arm, 0.0), counted.get(baseline, 0.0)
    return f"{spent / usual:.2f}" if spent and usual else ""


def _cell(row: Row) -> str:
    if not row.seeds:
        return ""
    told = change(row.figure, row.difference)
    told = f"**{told}**" if verdict(row) else told
    return told if row.seeds == 1 else f"{told} {interval(row)}"


def whole(evidence: Evidence, figures: Sequence[MetricSpec]) -> str:
    """One host's table: both arms' means, the difference, its interval."""
    out = [markdown_row(HEADER), "|---|--:|--:|--:|--:|--:|\n"]
    for line in lines(row for row in rows(evidence.runs, figures) if row.seeds):
        bold = f"**{line.difference}** ({line.verdict})"
        difference = bold if line.verdict else line.difference
        cells = (line.task, line.baseline, line.sp, difference, line.interval, line.seeds)
        out.append(markdown_row(cells))
    return "".join(out)


def trials(evidence: Evidence, figures: Sequence[MetricSpec]) -> str:
    """A row for each trial: what was changed, what that did to each figure, and what it cost."""
    first = next((run for run in evidence.runs if run.arm == BASELINE), None)
    names = [*map(_short, figures), "cost"]
    out = [markdown_row(["trial", "settings", *names]), "|---|---|", "--:|" * len(names), "\n"]
    if first is not None:
        levels = [level(figure, first.figures.get(figure.key, float("nan"))) for figure in figures]
        out.append(markdown_row([BASELINE, "", *levels, ""]))
    for arm, told in evidence.arms.items():
        if arm == BASELINE:
            continue
        found = rows(evidence.runs, figures, arm=arm)
        cost = _cost(evidence.runs, BASELINE, arm)
        out.append(markdown_row([arm, tried(told, evidence.epochs), *map(_cell, found), cost]))
    return "".join(out)


def predictions(evidence: Evidence) -> str:
    """What was expected of each trial before it was run, a line each."""
    return "".join(
        f"- **{arm}**: {' '.join(told['prediction'].split())}\n"
        for arm, told in evidence.arms.items()
        if told["prediction"]
    )


def tried(arm: Mapping[str, Any], epochs: int) -> str:
    """What an arm is, in a few words: SP's settings or what stands in its place, other epochs.

    Args:
        arm: as in `Evidence`.
        epochs: of the baseline.

    >>> tried({"sp": SPConfig().asdict(), "pretext": "augself", "epochs": 10}, epochs=10)
    "augself in SP's place, weight 0.5 of the host's gradient"
    >>> tried({"sp": {}, "pretext": "sp", "epochs": 15}, epochs=10)
    '15 epochs'
    """
    told = []
    if arm["sp"]:
        other = arm["pretext"] not in ("", SP)
        told += [f"{arm['pretext']} in SP's place"] * other + [changed(arm["sp"])]
    if arm["epochs"] != epochs:
        told.append(f"{arm['epochs']} epochs")
    return ", ".join(told)


def changed(sp: Mapping[str, Any]) -> str:
    """SP's weight, and its other settings where they are not the defaults.

    >>> changed({**SPConfig(weight=3, relative=False).asdict(), "head_width": 64})
    'weight 3, head_width=64'
    """
    if not sp:
        return ""
    usual = SPConfig(sp["weight"], sp["relative"]).asdict()
    other = {key: value for key, value in sp.items() if _tuples(value) != usual.get(key)}
    told = [f"{key}={_plain(value)}" for key, value in other.items()]
    return ", ".join([SPConfig.from_dict(sp).describe_weight(), *told])


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _plain(value: Any) -> str:
    return str(value).replace(" ", "")


def _short(figure: MetricSpec) -> str:
    return figure.key.replace("_", " ")
