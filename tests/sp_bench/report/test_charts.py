from __future__ import annotations

import math
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from sp_bench.report import mpl_style
from sp_bench.report.forest_plot import (
    Line,
    Panel,
    forest_charts,
    forest_figure,
    seed_differences,
)
from sp_bench.report.learning_curves import curve_charts, mean_curve, points
from sp_bench.results import Results, Run


def test_seed_differences_pair_by_seed() -> None:
    runs = [
        Run("sp", 2, {"knn": 0.9}),
        Run("baseline", 1, {"knn": 0.1}),
        Run("baseline", 2, {"knn": 0.4}),
        Run("sp", 1, {"knn": 0.2}),
        Run("sp", 3, {"knn": 0.7}),
    ]
    assert seed_differences(runs, "knn") == pytest.approx([0.1, 0.5])


def test_forest_has_one_plot_per_unit(results: Results) -> None:
    charts = forest_charts(results, results.rows[:3])
    assert list(charts) == ["percentage points", "R²", "depth RMSE [m]"]
    axes = charts["percentage points"].axes[0]
    zero, bar = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(bar.get_xdata()) == pytest.approx([-0.2, 0.8])
    seeds, mean = axes.collections
    assert mean.get_offsets()[0, 0] == pytest.approx(0.31)
    assert list(seeds.get_offsets()[:, 0]) == pytest.approx([0.3, 0.3, 0.3])


def test_filled_mark_means_significant(results: Results) -> None:
    charts = forest_charts(results, results.rows[:3])
    full = {name: len(c.axes[0].collections[-1].get_facecolor()) for name, c in charts.items()}
    assert full == {"percentage points": 0, "R²": 1, "depth RMSE [m]": 1}


def test_missing_interval_draws_no_bar(results: Results) -> None:
    row = results.rows[0]
    row.low = row.high = math.nan
    assert len(forest_charts(results, [row])["percentage points"].axes[0].lines) == 1


def test_forest_skips_missing_differences(results: Results) -> None:
    results.rows[0].difference = math.nan
    assert "percentage points" not in forest_charts(results, results.rows[:3])


def test_points_skip_nan() -> None:
    curve = [{"epoch": 0, "loss": math.nan}, {"epoch": 1, "loss": 2.0}, {"epoch": 2}]
    assert points(Run("sp", 0, curve=curve), "loss") == {1: 2.0}


def test_mean_curve_uses_common_epochs() -> None:
    assert mean_curve([{0: 1.0, 1: 2.0}, {1: 4.0, 2: 9.0}]) == {1: 3.0}
    assert mean_curve([]) == {}


def test_single_epoch_has_no_curves() -> None:
    runs = [Run(arm, 0, curve=[{"epoch": 0, "loss": 2.0}]) for arm in ("baseline", "sp")]
    assert curve_charts(runs) == {}


def test_curves_show_each_arm_and_seed(results: Results) -> None:
    charts = curve_charts(results.runs)
    assert "R² of dy" not in charts  # no run recorded it
    axes = charts["Loss of the method"].axes[0]
    assert len(axes.lines) == 8  # 3 seeds and their mean, twice
    thick = [line for line in axes.lines if line.get_linewidth() > 1]
    assert [to_hex(line.get_color()) for line in thick] == [mpl_style.BASELINE, mpl_style.SP]
    assert list(thick[0].get_ydata()) == [4.0, 3.0, 2.0]


def test_r2_plots_share_a_y_axis(results: Results) -> None:
    charts = curve_charts(results.runs)
    limits = {charts[f"R² of {name}"].axes[0].get_ylim() for name in ("dx", "scale")}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low < 0.1 and high > 0.4


def test_panels_share_names_and_bytes(results: Results, tmp_path: Path) -> None:
    rows = results.rows[:2]
    lines = [Line(row.metric.key, row, [row.difference]) for row in rows]
    panels = [Panel(lines, "unit", f"panel {i}", summarized=True) for i in range(3)]
    figure = forest_figure(panels, columns=2)
    first, second, third, empty = figure.axes
    names = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes[:3]]
    assert names == [["knn", "pair_dx_gain"], ["", ""], ["knn", "pair_dx_gain"]]
    assert second.get_title(loc="left") == "panel 1" and not empty.axison
    assert first.get_ylim() == third.get_ylim() == (1.6, -0.6)
    for name in ("a", "b"):
        mpl_style.save_figure(forest_figure(panels, columns=2), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
