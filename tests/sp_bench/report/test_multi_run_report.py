"""Runs side by side: values, empty cells, and folders without a run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sp_bench.errors import UsageError
from sp_bench.report.multi_run_report import write_runs
from sp_bench.report.run_table import RunSummary, measured_metrics, read_run_folder, summarize
from sp_bench.results import Results, Row, Run
from sp_bench.stats import rows
from sp_bench.tasks import all_tasks

from tests.sp_bench.report.test_html_report import HtmlReader, dump_dom

ALL_METRICS = [metric for task in all_tasks().values() for metric in task.metrics]


def write_evaluation(folder: Path, side: int = 64, data: str = "", **metrics: float) -> Path:
    folder.mkdir()
    result: dict[str, Any] = {
        "settings": {"backbone": "tiny_resnet", "side": side, "data": data or None},
        "checkpoint": {"path": "a.ckpt"},
        "metrics": metrics,
        "seconds": {"knn": 2.0, "jigsaw": 3.0},
        "compute": {"forward_flops": 1.5e8, "parameters": 1.2e6, "side": 64.0},
    }
    (folder / "eval.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def comparison(tmp_path: Path, results: Results) -> Path:
    runs = [
        dataclasses.replace(run, metrics={"knn": run.metrics["knn"], "linear": 0.5}, flops=2e12)
        for run in results.runs
    ]
    runs += [Run("longer", seed, {"knn": 0.9 + 0.01 * seed, "linear": 0.5}) for seed in range(3)]
    metrics = [metric for metric in ALL_METRICS if metric.key in ("knn", "linear")]
    made = dataclasses.replace(
        results, runs=runs, rows=rows(runs, metrics), longer=rows(runs, metrics, "longer")
    )
    (tmp_path / "pair").mkdir()
    made.save(tmp_path / "pair" / "results.json")
    return tmp_path / "pair"


def test_columns_hold_arms_and_backbones(tmp_path, comparison):
    alone = write_evaluation(tmp_path / "alone", knn=0.25, jigsaw_3x3_piece=1 / 9)
    shown = summarize([read_run_folder(comparison), read_run_folder(alone)])
    assert [(column.folder, column.name) for column in shown] == [
        ("pair", "baseline"), ("pair", "SP"), ("pair", "longer baseline"), ("alone", "tiny_resnet"),
    ]  # fmt: skip
    assert shown[0].metrics["knn"] == pytest.approx(0.79)
    assert shown[2].metrics["knn"] == pytest.approx(0.91)
    assert shown[0].compute["forward FLOPs of pre-training"] == "2.00e+12"
    page, table = write_runs([comparison, alone], tmp_path / "report")
    text = table.read_text()
    assert "| kNN (top-1) | 79.0 | 79.3 | 91.0 | 25.0 |" in text
    assert (
        "| jigsaw 3x3: patches put right (chance 11.1) | – | – | – | 11.1 |"  # noqa: RUF001
        in text
    )
    assert "pair, SP less baseline:" in text
    assert "pair, SP less the baseline that trained longer:" in text
    reader = HtmlReader(page.read_text())
    assert "79.3" in reader.text and "2.00e+12" in reader.text
    assert "http" not in page.read_text().replace("http://www.w3.org", "")


def test_metrics_of_json_alone_have_no_row():
    summary = RunSummary("a", "b", {"pair_dx_one": 0.1, "pair_dx_r2": 0.3, "knn": 0.5}, {})
    assert [metric.key for metric in measured_metrics([summary])] == ["knn", "pair_dx_r2"]


def test_conditions_are_rows_of_the_table(tmp_path):
    small = write_evaluation(tmp_path / "a", side=48, data="x/scenes", knn=0.25)
    large = write_evaluation(tmp_path / "b", side=224, data="y/scenes", knn=0.5)
    same = write_evaluation(tmp_path / "c", side=48, data="x/scenes", knn=0.5)
    page, table = write_runs([small, large], tmp_path / "report")
    text = table.read_text()
    assert "| image size | 48 px | 224 px |" in text
    assert "| data | scenes | scenes |" in text
    assert "| checkpoint | a.ckpt | a.ckpt |" in text
    warning = "Not comparable across columns: they differ in image size (48 px and 224 px)."
    assert warning in text and warning in HtmlReader(page.read_text()).text
    page, table = write_runs([small, same], tmp_path / "report")
    assert "Not comparable" not in table.read_text() + page.read_text()
    other = write_evaluation(tmp_path / "d", side=48, data="flowers", knn=0.5)
    _, table = write_runs([small, other], tmp_path / "report")
    assert "differ in data (scenes and flowers)." in table.read_text()


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_long_names_move_no_column_away(tmp_path):
    """A table that is wider than its box scrolls, and its last columns are out of sight."""
    folders = [
        write_evaluation(tmp_path / name, data="x/" + 90 * "long", knn=0.5) for name in "abc"
    ]
    page, _ = write_runs(folders, tmp_path / "report")
    act = """<script>
const boxes = [...document.querySelectorAll(".wide")];
document.title = boxes.every((box) => box.scrollWidth <= box.clientWidth) ? "all fit" : "cut off";
</script></body>"""
    page.write_text(page.read_text().replace("</body>", act))
    assert "<title>all fit</title>" in dump_dom(page)


def test_second_table_uses_longer_baseline(comparison):
    found = read_run_folder(comparison).results
    assert found is not None
    (knn,) = [row for row in found.longer if row.metric.key == "knn"]
    assert knn.difference == pytest.approx(0.793 - 0.91)
    assert isinstance(knn, Row) and knn.seeds == 3


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "is not there; takes folders of compare or eval"),
        (lambda p: p.mkdir(), "is no folder of compare or eval"),
        (lambda p: p.mkdir() or (p / "settings.json").write_text("{}"), "is not finished; run its"),
        (lambda p: p.mkdir() or (p / "results.json").write_text("{"), "cannot be read"),
    ],
)
def test_non_run_folder_is_refused(make, says, tmp_path):
    make(tmp_path / "a")
    with pytest.raises(UsageError, match=f"^report: .*/a {says}") as error:
        write_runs([tmp_path / "a"], tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
