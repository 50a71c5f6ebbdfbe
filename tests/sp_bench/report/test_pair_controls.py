from __future__ import annotations

from sp_bench.report.pair_controls import CONTROLS, TARGETS, is_control, pair_controls
from sp_bench.results import MetricSpec, Results, Row
from sp_bench.tasks.pair import TASK


def test_control_keys_match_pair_task() -> None:
    controls = {f.key for f in TASK.metrics if f.key.rpartition("_")[2] in CONTROLS}
    controls |= {f.key for f in TASK.metrics if f.key.endswith("_equal_one")}
    controls -= {f.key for f in TASK.metrics if "_mlp" in f.key}
    assert {f"pair_{target}_{control}" for target in TARGETS for control in CONTROLS} == controls


def test_unmeasured_controls_are_left_out(
    results: Results,
) -> None:
    controls = pair_controls(results)
    assert controls is not None
    assert [column.group for column in controls.columns] == ["", *["dx, left to right"] * 2]
    assert [column.name for column in controls.columns] == ["", "baseline", "SP"]
    assert controls.rows == [
        ("both views", "0.300", "0.250"),
        ("one view alone", "0.169", "0.159"),
    ]


def test_missing_value_leaves_cell_empty(results: Results) -> None:
    results.rows.append(Row(MetricSpec("pair_dy_one", "x", headline=False), 0.5, 0.4, 0, 0, 0, 3))
    controls = pair_controls(results)
    assert controls is not None
    assert controls.rows[0] == ("both views", "0.300", "0.250", "", "")
    assert controls.rows[1][3:] == ("0.500", "0.400")


def test_no_pair_task_gives_no_table(results: Results) -> None:
    results.rows = [row for row in results.rows if not is_control(row)]
    assert pair_controls(results) is None
    assert [row.metric.key for row in results.rows] == [
        "knn", "pair_dx_gain", "depth_rmse", "abs_rel",
    ]  # fmt: skip
