from __future__ import annotations

import dataclasses
import io
import math

import pytest
from rich.console import Console
from sp_bench.report.comparison_table import comparison_table, headline_rows, print_comparison
from sp_bench.report.number_format import (
    MISSING,
    format_interval,
    metric_name,
    name_with_chance,
    verdict,
)
from sp_bench.results import MetricSpec, Results, Row


def print_to_text(results: Results, width: int = 110) -> str:
    file = io.StringIO()
    print_comparison(results, Console(file=file, width=width, force_terminal=True, no_color=True))
    return file.getvalue()


def test_percent_metrics_are_in_points(results: Results) -> None:
    knn, gain, depth = comparison_table(results.rows, with_chance=True).rows[:3]
    assert knn[1:] == ("78.2", "78.5", ("+0.3", False, ""), "[-0.2, +0.8]", MISSING, "3")
    assert gain[1:] == (
        "0.131",
        "0.091",
        ("-0.040", True, "(worse)"),
        "[-0.061, -0.019]",
        "yes",
        "3",
    )
    assert depth[0] == "depth RMSE [m], lower is better"
    assert depth[1:] == (
        "0.412",
        "0.400",
        ("-0.012", True, "(better)"),
        "[-0.020, -0.004]",
        "no",
        "3",
    )
    assert knn[0] == "kNN (top-1) (chance 25.0)"


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "said"),
    [
        (0.1, 0.2, True, "better"),
        (0.1, 0.2, False, "worse"),
        (-0.2, -0.1, True, "worse"),
        (-0.2, -0.1, False, "better"),
        (-0.1, 0.1, True, ""),
        (0.0, 0.1, True, ""),
        (math.nan, math.nan, True, ""),
    ],
)
def test_verdict_needs_interval_without_0(
    low: float, high: float, higher_is_better: bool, said: str
) -> None:
    metric = MetricSpec("x", "x", higher_is_better=higher_is_better)
    assert verdict(Row(metric, 1, 1, (low + high) / 2, low, high, 3)) == said


def test_missing_interval_is_not_one_seed() -> None:
    row = Row(MetricSpec("x", "x"), 1, 2, 1, math.nan, math.nan, 1)
    assert format_interval(row) == "one seed"
    assert format_interval(dataclasses.replace(row, seeds=2)) == MISSING


def test_nan_is_shown_as_a_dash() -> None:
    nothing = Row(MetricSpec("x", "x"), math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    dash = (MISSING, False, "")
    assert comparison_table([nothing]).rows[0][1:] == (
        MISSING,
        MISSING,
        dash,
        MISSING,
        MISSING,
        "0",
    )


def test_chance_of_0_is_not_shown() -> None:
    metric = MetricSpec("x", "x", chance=0.0)
    assert name_with_chance(metric) == metric_name(metric)


def test_printed_table_has_headline_only(results: Results) -> None:
    text = print_to_text(results)
    assert "kNN (top-1)" in text and "[-0.2, +0.8]" in text
    assert "both" not in text and "AbsRel" not in text


def test_brackets_in_label_are_literal(results: Results) -> None:
    results.rows[0].metric = MetricSpec("knn", "kNN [bold]", percent=True)
    assert "kNN [bold]" in print_to_text(results)


def test_significant_difference_is_bold(
    results: Results,
) -> None:
    knn, gain = (
        next(x for x in print_to_text(results).splitlines() if k in x) for k in ("kNN", "dx,")
    )
    assert "\x1b[1m" not in knn
    assert "\x1b[1m    -0.040\x1b[0m" in gain or "\x1b[1m-0.040" in gain
    assert "worse" in gain


def test_markdown_table_exact_text(results: Results) -> None:
    results.rows[2].metric = MetricSpec("depth_rmse", "depth | RMSE", higher_is_better=False)
    assert comparison_table(headline_rows(results.rows)).to_markdown() == (
        "| task | baseline | SP | difference | 95% interval | survives BH | seeds |\n"
        "|---|--:|--:|--:|--:|--:|--:|\n"
        "| kNN (top-1) | 78.2 | 78.5 | +0.3 | [-0.2, +0.8] | \N{EN DASH} | 3 |\n"
        "| pair: dx, gain over one view (R2) | 0.131 | 0.091 | **-0.040** (worse) "
        "| [-0.061, -0.019] | yes | 3 |\n"
        "| depth \\| RMSE, lower is better | 0.412 | 0.400 | **-0.012** (better) "
        "| [-0.020, -0.004] | no | 3 |\n"
    )


@pytest.mark.parametrize("width", [30, 80, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_printed_table_is_never_cut(results: Results, width: int, terminal: bool) -> None:
    results = dataclasses.replace(results, longer=results.rows[:1])
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, no_color=True)
    print_comparison(results, console)
    lines = file.getvalue().splitlines()
    (gain,) = [line for line in lines if "gain over one view" in line]
    assert "0.131" in gain and "-0.040" in gain and "[-0.061, -0.019]" in gain
    assert sum("kNN (top-1)" in line for line in lines) == 2
    assert any("the longer baseline" in line for line in lines)
