"""The results page, from evidence made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sp_bench.errors import UsageError
from sp_bench.results import Run
from sp_bench.results_page.goals import goals
from sp_bench.results_page.page import BEGIN, END, insert_table, page, write_figures
from sp_bench.results_page.reading import headlines, read_suites
from sp_bench.sweeps.collect import Evidence

from sp_plugin import SPConfig

PAIR = {
    f"pair_{name}_{key}": value
    for name in ("dx", "dy", "scale")
    for key, value in (("gain", 0.1), ("equal", 0.3), ("equal_one", 0.1))
}


def evidence(suite: str, method: str, change: float, arms: tuple[str, ...] = ()) -> Evidence:
    """Three seeds whose differences are ``change`` less a hundredth, itself, and one more."""
    runs = []
    for seed in range(3):
        spread = 0.01 * (seed - 1)
        base = {"knn": 0.5 + 0.1 * seed, "robustness": 0.4, **PAIR}
        runs.append(Run("baseline", seed, base))
        better = {"knn": base["knn"] + change + spread, "robustness": 0.4 + change}
        equal = {f"pair_{name}_equal": 0.45 for name in ("dx", "dy", "scale")}
        runs += [Run(arm, seed, {**PAIR, **better, **equal}) for arm in ("sp", *arms)]
    told: dict[str, Any] = {"epochs": 3, "pretext": "sp", "prediction": ""}
    usual = SPConfig().asdict()
    own = {arm: {**told, "sp": usual} for arm in ("baseline", "sp")}
    for arm in arms:
        sp = {**usual, "weight": 5.0, "max_iou": [1.0, 0.1]}
        own[arm] = {**told, "prediction": f"{arm} is far better.", "sp": sp}
    return Evidence(
        suite=suite,
        command="sp-bench suite x.yaml",
        settings={"method": method, "backbone": "tiny_resnet", "batch_size": 8, "side": 32},
        arms=own,
        data={"name": "scenes", "train": 10000, "test": 3000},
        versions={"torch": "2.15.0"},
        machine={"device": "cpu", "processor": "x", "precision": "32-true"},
        dates=["2026-01-02"],
        runs=runs,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for method, change in (("byol", 0.02), ("simclr", -0.05)):
        evidence("scenes", method, change).save(tmp_path / "scenes" / f"{method}.json")
    trials = evidence("tune", "simclr", 0.01, ("w3",))
    trials.save(tmp_path / "tune" / "simclr.json")
    (tmp_path / "tune" / "notes.md").write_text("What was learnt: little.\n")
    return tmp_path


def test_hosts_stand_in_the_order_of_their_names_with_intervals(folder: Path) -> None:
    told = page(read_suites(folder), folder)
    # t of 2 degrees of freedom, 4.303, times 0.01 / sqrt 3: 2.48 points either way.
    # Over two hosts, -5 and +2, it is t of 1, 12.706, times 4.95 / sqrt 2.
    mean = "-1.5 [-46.0, +43.0]"
    assert f"| kNN (top-1) | **-5.0** [-7.5, -2.5] | +2.0 [-0.5, +4.5] | {mean} |" in told
    assert "| task | simclr, tiny_resnet | byol, tiny_resnet | mean over methods |" in told
    equalised = "sharpness equalised, gain over one view (R2) | **+0.150** [+0.150, +0.150]"
    assert equalised in told


def test_what_sp_costs_stands_below_what_it_gains(folder: Path) -> None:
    told = page(read_suites(folder), folder)
    assert "FLOPs" not in told, "none were counted"
    counted = evidence("scenes", "byol", 0.02)
    for run in counted.runs:
        run.flops = 3e12 if run.arm == "sp" else 2e12
    counted.save(folder / "scenes" / "byol.json")
    told = page(read_suites(folder), folder)
    assert "| cost: forward FLOPs of pre-training, as a ratio |  | 1.50 |  |" in told


def test_one_host_has_no_mean_over_hosts(folder: Path) -> None:
    (folder / "scenes" / "byol.json").unlink()
    assert (
        "mean over" not in page(read_suites(folder), folder).split("## Trials")[0].split("###")[2]
    )


def test_a_host_without_a_pair_is_left_out(folder: Path, tmp_path: Path) -> None:
    whole, drawn = (
        page(read_suites(folder), folder),
        write_figures(read_suites(folder), tmp_path / "a"),
    )
    left = drawn[0].read_bytes()
    alone = evidence("scenes", "mae", 0.02)
    alone.runs = [run for run in alone.runs if run.arm == "baseline"]
    alone.save(folder / "scenes" / "mae.json")
    assert page(read_suites(folder), folder) == whole
    assert write_figures(read_suites(folder), tmp_path / "b")[0].read_bytes() == left
    none = {"scenes": [alone]}
    assert "## Photographs" not in page(none, folder) and write_figures(none, tmp_path) == []
    with pytest.raises(UsageError, match="readme: "):
        insert_table(f"{BEGIN}\n{END}", none)


def test_how_many_seeds_are_behind_a_column_is_told(folder: Path) -> None:
    fewer = evidence("scenes", "byol", 0.02)
    fewer.runs = [run for run in fewer.runs if run.arm == "baseline" or run.seed == 1]
    fewer.save(folder / "scenes" / "byol.json")
    told = page(read_suites(folder), folder)
    assert "| seeds | 3 | 1 |  |" in told
    assert "| kNN (top-1) | **-5.0** [-7.5, -2.5] | +2.0 |" in told


def test_nothing_is_sure_of_one_seed(folder: Path) -> None:
    hosts = read_suites(folder)["scenes"]
    for each in hosts:
        each.runs = [run for run in each.runs if run.seed == 0]
    by_text = {goal.text: goal for goal in goals(hosts)}
    assert by_text["kNN: significantly higher for half of the methods"].verdict == "not measured"


def test_goals_name_the_host_that_is_furthest_from_them(folder: Path) -> None:
    found = {goal.text.split(":")[0]: goal for goal in goals(read_suites(folder)["scenes"])}
    assert found["pair gain, sharpness equalised, mean of dx, dy and scale"].met
    assert found["kNN and linear probe"].worst == "-5.0 (simclr, kNN)"
    assert found["kNN and linear probe"].met is False
    assert found["kNN"].worst == "0 of 2"
    assert found["CamVid, mIoU"].met is None
    by_text = {goal.text: goal for goal in goals(read_suites(folder)["scenes"])}
    assert by_text["robustness: higher for most methods"].worst == "1 of 2"
    assert by_text["robustness: higher for most methods"].met is False
    assert by_text["pair gain of dx, sharpness equalised: above 0"].worst == "+0.350 (simclr)"


def test_a_suite_that_asks_for_none_of_the_goals_has_no_table_of_them(folder: Path) -> None:
    asked = evidence("pair_interaction", "byol", 0.02)
    for run in asked.runs:
        run.metrics = {"pair_interaction_gain": 0.2 if run.arm == "sp" else 0.1}
    asked.save(folder / "pair_interaction" / "byol.json")
    whole = page(read_suites(folder), folder)
    told = whole.split("## What two crops predict jointly")[1].split("## Trials")[0]
    assert "gain over one view (R2) | **+0.100**" in told
    assert "### Goals" not in told and "not measured" not in told
    assert "### Goals" in whole


def test_a_trial_stands_with_its_settings_and_its_prediction(folder: Path) -> None:
    told = page(read_suites(folder), folder)
    assert "| w3 | weight 5 of the host's gradient, max_iou=[1.0,0.1] | +1.0 [-1.5, +3.5] |" in told
    assert "- **w3**: w3 is far better." in told
    assert "What was learnt: little." in told


def test_a_trial_says_what_stands_in_sps_place_and_what_it_costs(folder: Path) -> None:
    trials = evidence("tune", "simclr", 0.01, ("peer", "more"))
    trials.arms["peer"]["pretext"] = "augself"
    trials.arms["more"].update(sp={}, epochs=5)
    for run in trials.runs:
        run.flops = 5e12 if run.arm == "more" else 3e12
    trials.save(folder / "tune" / "simclr.json")
    rows = {line.split(" | ")[0]: line for line in page(read_suites(folder), folder).splitlines()}
    peer, more = rows["| peer"], rows["| more"]
    assert "| augself instead of SP, weight 5 of the host's gradient, max_iou" in peer
    assert peer.endswith("| 1.00 |")
    assert more.startswith("| more | 5 epochs |") and more.endswith("| 1.67 |")


def test_the_readme_gets_the_table_between_its_marks(folder: Path) -> None:
    found = read_suites(folder)
    before = f"# X\n{BEGIN}\nold\n{END}\nrest\n"
    after = insert_table(before, found)
    assert after.startswith("# X\n") and after.endswith("rest\n") and "old" not in after
    assert "| kNN (top-1) | **-5.0** [-7.5, -2.5] |" in after
    assert insert_table(after, found) == after
    with pytest.raises(UsageError, match="readme: no"):
        insert_table("# X", found)


def test_no_trial_gets_into_the_readme(folder: Path) -> None:
    found, text = read_suites(folder), f"{BEGIN}\n{END}"
    first = {"cifar": found["scenes"], "tune": found["tune"]}
    assert insert_table(text, first) == insert_table(text, {"scenes": found["scenes"]})
    with pytest.raises(UsageError, match="readme: of trials alone"):
        insert_table(text, {"tune": found["tune"]})


def test_its_pictures_are_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    first = write_figures(read_suites(folder), tmp_path / "a")
    second = write_figures(read_suites(folder), tmp_path / "b")
    assert [path.name for path in first] == ["scenes.png"]
    assert first[0].read_bytes() == second[0].read_bytes()


def test_it_shows_what_runs_have_and_nothing_else(folder: Path) -> None:
    keys = [metric.key for metric in headlines(read_suites(folder)["scenes"])]
    pairs = ("pair_equal_gain", "pair_dx_gain", "pair_dy_gain", "pair_scale_gain")
    assert keys == ["knn", *pairs, "pair_scale_equal_gain", "robustness"]


def test_no_json_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"results: no SUITE/METHOD\.json"):
        read_suites(tmp_path)
