"""The whole command on tiny networks: its files, and that nothing is measured twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from sp_bench.cli import main
from sp_bench.speed.page import markdown
from sp_bench.speed.run import run_speed
from sp_bench.speed.settings import PARTS, SpeedSettings

from sp_plugin import SPConfig

QUICK = ["--quick", "--repeats", "1", "--device", "cpu"]


def speed(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["speed", *arguments])
    return int(str(stop.value.code))


@pytest.fixture(scope="module")
def speed_run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("speed") / "out"
    assert speed("--out", str(out), *QUICK) == 0
    return out


def test_every_table_is_written(speed_run_dir: Path) -> None:
    measured = json.loads((speed_run_dir / "speed.json").read_text())
    assert list(measured["parts"]) == list(PARTS) and all(measured["parts"].values())
    assert {"command", "date", "versions", "machine", "settings"} <= set(measured)
    page = (speed_run_dir / "speed.md").read_text()
    for title in ("Step ratio", "Crops", "Data path", "Peers", "Cost against the number", "Goals"):
        assert f"### {title}" in page
    # Two of four images are an eighth of them or more, so the whole batch adds twice as much.
    added = [
        float(re.search(rf"\| {arm} \|(?:[^|]*\|){{3}} 1(\.\d+) \|", page)[1])  # type: ignore[index]
        for arm in ("SP", "SP, sample_fraction=1")
    ]
    assert added[1] == pytest.approx(2 * added[0], abs=1.1e-3)
    for name in ("AugSelf", "Drloc", "grid_sample", "mae, tiny_vit", "3 crops, all 3 pairs"):
        assert name in page
    assert "| spatial probe in every 4th step: at most 1.05 |" in page
    assert "| met |" in page and "crop_resize: error at most 1/255" in page
    assert "Only a CPU was measured" in page and "its numbers have no meaning" in page
    for text in (page, (speed_run_dir / "speed.json").read_text()):
        assert str(speed_run_dir.parent) not in text and "nan" not in text.lower().replace(
            "nano", ""
        )


def test_each_step_has_time_flops_and_memory(speed_run_dir: Path) -> None:
    steps = json.loads((speed_run_dir / "speed.json").read_text())["parts"]["steps"]
    for measured in steps.values():
        assert set(measured["seconds"]) >= {"host alone", "SP", "crops alone", "SP's own parts"}
        assert measured["flops"]["lower_bound"] > 1
        assert measured["peak_bytes"]["SP"] > measured["peak_bytes"]["host alone"] > 0


def test_pixel_share_counts_all_crops(speed_run_dir: Path) -> None:
    (data,) = json.loads((speed_run_dir / "speed.json").read_text())["parts"]["data"].values()
    config = SPConfig().resolve(32)
    assert data["pixels"] == config.num_crops * config.crop_size**2 / (2 * 32**2)


def test_finished_run_is_not_repeated(speed_run_dir: Path, capsys: Any) -> None:
    before = (speed_run_dir / "speed.json").read_bytes()
    assert speed("--out", str(speed_run_dir), *QUICK) == 0
    assert "measured before" in capsys.readouterr().out
    assert (speed_run_dir / "speed.json").read_bytes() == before


def test_other_settings_need_another_folder(speed_run_dir: Path, capsys: Any) -> None:
    assert speed("--out", str(speed_run_dir), "--quick", "--repeats", "2", "--device", "cpu") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "was made with repeats=1, now it is 2" in said


def test_stopped_run_measures_missing_parts(tmp_path: Path) -> None:
    settings = SpeedSettings(("crops",), repeats=1, quick=True, device="cpu")
    lines: list[str] = []
    whole = run_speed(settings, tmp_path / "out", lines.append)
    assert len(lines) == 2
    (tmp_path / "out" / "speed.json").unlink()
    parts = json.loads((tmp_path / "out" / "parts.json").read_text())
    last = list(parts["crops"])[-1]
    del parts["crops"][last]
    (tmp_path / "out" / "parts.json").write_text(json.dumps(parts))
    again = run_speed(settings, tmp_path / "out", lines.append)
    assert lines[2:] == [f"crops: {last}"]
    first = next(iter(parts["crops"]))
    assert again["parts"]["crops"][first] == whole["parts"]["crops"][first]


def test_page_combines_several_devices(speed_run_dir: Path, tmp_path: Path) -> None:
    gpu = json.loads((speed_run_dir / "speed.json").read_text())
    gpu["settings"]["device"], gpu["machine"]["device"] = "cuda", "A GPU"
    (tmp_path / "gpu.json").write_text(json.dumps(gpu))
    page = tmp_path / "speed.md"
    files = "--from", str(speed_run_dir / "speed.json"), "--from", str(tmp_path / "gpu.json")
    assert speed(*files, "--docs", str(page)) == 0
    text = page.read_text()
    assert "## On a CPU" in text and "## On A GPU" in text and "Only a CPU" not in text
    assert "at least 20 times as fast as torchvision" in text and "never slower" in text
    assert markdown([gpu]) in text.replace(text[text.index("\n## On a CPU") :], "") + "".join(
        text[text.index("\n## On A GPU") :]
    )


def test_json_of_another_version_is_refused(
    speed_run_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    other = json.loads((speed_run_dir / "speed.json").read_text())
    for measured in other["parts"]["steps"].values():
        measured["flops"]["floor"] = measured["flops"].pop("lower_bound")
    (tmp_path / "old.json").write_text(json.dumps(other))
    assert speed("--from", str(tmp_path / "old.json"), "--docs", str(tmp_path / "a.md")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "has no 'lower_bound': another version wrote it" in said
    assert not (tmp_path / "a.md").exists()
