"""The tables on a page, in Markdown, and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sp_bench.report.table import markdown_row
from sp_bench.speed.formatting import SpeedTable
from sp_bench.speed.tables import tables

_INTRODUCTION = """# What SP costs

Made by `sp-bench speed` from what it measured; no figure here was typed. Arms take turns, times are
medians, ratios are medians over turns with the 95% interval of a bootstrap.
SP is asked about one pair of crops; more crops have a table of their own.
Memory is the peak of what training allocates beyond what was there before: activations, gradients
and the optimizer's state; on a GPU the weights and the batch too, which Lightning brings there.
"""
_ONLY_CPU = """
Only a CPU was measured. The same command takes a GPU where there is one.
"""
_QUICK = """
**A quick run, with tiny nets and images: its figures say nothing.**
"""


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """One page of one or several runs.

    Args:
        results: what `sp_bench.speed.run.run_speed` gives, of one device each.
    """
    gpu = any(result["settings"]["device"] == "cuda" for result in results)
    sections = "".join(_section(result) for result in results)
    return _INTRODUCTION + ("" if gpu else _ONLY_CPU) + sections


def _section(result: Mapping[str, Any]) -> str:
    found = tables(result)
    every = [goal for table in found for goal in table.goals]
    goals = "".join(markdown_row((goal.text, goal.worst, goal.verdict)) for goal in every)
    missed = [goal for goal in every if goal.met is False and goal.why]
    why = "".join(f"- **{goal.text}**: {goal.why}\n" for goal in missed)
    head = markdown_row(("goal", "worst figure", "")) + "|---|---|---|\n"
    return "".join(
        [
            f"\n## On {_device(result)}\n\n",
            f"`{result['command']}`, {result['date']}; {_circumstances(result)}.\n",
            _QUICK if result["settings"]["quick"] else "",
            f"\n### Goals\n\n{head}{goals}" if goals else "",
            f"\nWhere one is missed:\n\n{why}" if why else "",
            *(_markdown_table(table) for table in found),
        ]
    )


def _markdown_table(table: SpeedTable) -> str:
    rule = f"|{'---|' * table.names}{'--:|' * (len(table.header) - table.names)}\n"
    rows = "".join(markdown_row(row) for row in table.rows)
    return f"\n### {table.title}\n\n{table.note}\n\n{markdown_row(table.header)}{rule}{rows}"


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables of a run, the goals under each."""
    for found in tables(result):
        table = Table(title=found.title, caption=found.note, caption_justify="left", box=None)
        for place, name in enumerate(found.header):
            table.add_column(name, justify="left" if place < found.names else "right")
        for row in found.rows:
            table.add_row(*map(Text, row))
        console.print(table)
        for goal in found.goals:
            console.print(f"{goal.verdict}: {goal.text}: {goal.worst}", highlight=False)
        console.print()


def _device(result: Mapping[str, Any]) -> str:
    told = result["machine"]
    cpu = result["settings"]["device"] == "cpu"
    name = f"a CPU ({told['processor']})" if cpu else told["device"]
    return f"{name}, {told['threads']} threads" if cpu else str(name)


def _circumstances(result: Mapping[str, Any]) -> str:
    told = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{told['system']}, {told['cores']} cores, {told['precision']}; {versions}"
