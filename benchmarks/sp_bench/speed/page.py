"""The tables of measurements as a page in Markdown, and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from sp_bench.report.comparison_table import goals_table
from sp_bench.speed.tables import tables

_INTRODUCTION = """# What SP costs

`sp-bench speed` generates this page from its measurements; no number was typed. Times are those of
`torch.utils.benchmark`. Arms take turns, times are medians, ratios are medians over rounds with the
95% interval of a bootstrap. The arm SP is the default: four crops of an eighth of the images, or of
two where an eighth is less; with `sample_fraction=1` it sees every image.
Memory is the peak of allocations during training, without earlier allocations: activations,
gradients and the optimizer's state; on a GPU also the weights and the batch, which Lightning moves
there.
"""
_ONLY_CPU = """
Only a CPU was measured. The same command uses a GPU if there is one.
"""
_QUICK = """
**A quick run with tiny networks and images: its numbers have no meaning.**
"""


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """One page of one or several measurements.

    Args:
        results: results of `sp_bench.speed.run.run_speed`, one per device.
    """
    has_gpu = any(result["settings"]["device"] == "cuda" for result in results)
    sections = "".join(_section(result) for result in results)
    return _INTRODUCTION + ("" if has_gpu else _ONLY_CPU) + sections


def _section(result: Mapping[str, Any]) -> str:
    parts = tables(result)
    goals = [goal for part in parts for goal in part.goals]
    text = f"\n## On {_device(result)}\n\n"
    text += f"`{result['command']}`, {result['date']}; {_circumstances(result)}.\n"
    if result["settings"]["quick"]:
        text += _QUICK
    if goals:
        text += f"\n### Goals\n\n{goals_table(goals).to_markdown()}"
    reasons = [
        f"- **{goal.text}**: {goal.why}\n" for goal in goals if goal.met is False and goal.why
    ]
    if reasons:
        text += f"\nReasons for missed goals:\n\n{''.join(reasons)}"
    for table, _ in parts:
        text += f"\n### {table.title}\n\n{table.note}\n\n{table.to_markdown()}"
    return text


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables of a measurement, with the goals below them."""
    for table, goals in tables(result):
        table.print_to(console)
        for goal in goals:
            console.print(f"{goal.verdict}: {goal.text}: {goal.worst}", highlight=False)
        console.print()


def _device(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    if result["settings"]["device"] == "cpu":
        return f"a CPU ({machine['processor']}), {machine['threads']} threads"
    return str(machine["device"])


def _circumstances(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{machine['system']}, {machine['cores']} cores, {machine['precision']}; {versions}"
