"""The results page, from evidence made by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sp_bench.errors import UsageError
from sp_bench.report.comparison_table import known_metrics
from sp_bench.results import Run
from sp_bench.results_page.cost_figure import cost_figure
from sp_bench.results_page.goals import goals
from sp_bench.results_page.page import BEGIN, END, insert_table, page, write_figures
from sp_bench.results_page.reading import headlines, measured_keys, read_suites
from sp_bench.sweeps.collect import Evidence
from suite_evidence import evidence_of

from sp_plugin import SPConfig

COMMITTED = Path(__file__).parents[3] / "benchmarks" / "results"
PAIR_METRICS = {
    f"pair_{name}_{key}": value
    for name in ("dx", "dy", "scale")
    for key, value in (("gain", 0.1), ("equal", 0.3), ("equal_one", 0.1))
}


def make_evidence(suite: str, method: str, change: float, arms: tuple[str, ...] = ()) -> Evidence:
    """Three seeds, whose differences are ``change`` - 0.01, ``change`` and ``change`` + 0.01."""
    runs = []
    for seed in range(3):
        spread = 0.01 * (seed - 1)
        base = {"knn": 0.5 + 0.1 * seed, "robustness": 0.4, **PAIR_METRICS}
        runs.append(Run("baseline", seed, base))
        better = {"knn": base["knn"] + change + spread, "robustness": 0.4 + change}
        equal = {f"pair_{name}_equal": 0.45 + spread for name in ("dx", "dy", "scale")}
        runs += [Run(arm, seed, {**PAIR_METRICS, **better, **equal}) for arm in ("sp", *arms)]
    settings: dict[str, Any] = {"epochs": 3, "pretext": "sp", "prediction": ""}
    usual = SPConfig().asdict()
    own = {arm: {**settings, "sp": usual} for arm in ("baseline", "sp")}
    for arm in arms:
        sp = {**usual, "weight": 5.0, "max_iou": [1.0, 0.1]}
        own[arm] = {**settings, "prediction": f"{arm} is far better.", "sp": sp}
    return evidence_of(suite, method, own, runs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for method, change in (("byol", 0.02), ("simclr", -0.05)):
        make_evidence("scenes", method, change).save(tmp_path / "scenes" / f"{method}.json")
    trials = make_evidence("tune", "simclr", 0.01, ("w3",))
    trials.save(tmp_path / "tune" / "simclr.json")
    (tmp_path / "tune" / "notes.md").write_text("Little improved.\n")
    return tmp_path


def test_methods_are_sorted_with_intervals(folder: Path) -> None:
    text = page(read_suites(folder), folder)
    # t of 2 degrees of freedom, 4.303, times 0.01 / sqrt 3: 2.48 points either way.
    # Over two hosts, -5 and +2, it is t of 1, 12.706, times 4.95 / sqrt 2.
    mean = "-1.5 [-46.0, +43.0]"
    assert f"| kNN (top-1) | **-5.0** [-7.5, -2.5] ✓ | +2.0 [-0.5, +4.5] | {mean} |" in text
    assert "| task | simclr, tiny_resnet | byol, tiny_resnet | mean over methods |" in text
    equalised = "sharpness equalised, gain over one view (R2) | **+0.150** [+0.125, +0.175] ✓"
    assert equalised in text


def test_all_but_the_headline_is_folded(folder: Path) -> None:
    text = page(read_suites(folder), folder)
    visible = re.sub("<details>.*?</details>", "", text, flags=re.DOTALL)
    assert "| task | simclr, tiny_resnet | byol" in visible and "Little improved." in visible
    for folded in ("Goals", "| task | baseline | SP |", "| trial | settings |"):
        assert folded in text and folded not in visible
    assert text.count("<details>") == text.count("</details>") == 4


def test_cost_follows_gains(folder: Path) -> None:
    text = page(read_suites(folder), folder)
    assert "FLOPs" not in text, "none were counted"
    counted = make_evidence("scenes", "byol", 0.02)
    for run in counted.runs:
        run.flops = 3e12 if run.arm == "sp" else 2e12
    counted.save(folder / "scenes" / "byol.json")
    text = page(read_suites(folder), folder)
    assert "| cost: forward FLOPs of pre-training, as a ratio |  | 1.50 |  |" in text


def test_one_method_has_no_mean(folder: Path) -> None:
    (folder / "scenes" / "byol.json").unlink()
    text = page(read_suites(folder), folder).split("## Trials")[0]
    assert "mean over" not in text.split("### SP less baseline")[1]


def test_unpaired_method_is_left_out(folder: Path, tmp_path: Path) -> None:
    whole, drawn = (
        page(read_suites(folder), folder),
        write_figures(read_suites(folder), tmp_path / "a"),
    )
    left = drawn[0].read_bytes()
    alone = make_evidence("scenes", "mae", 0.02)
    alone.runs = [run for run in alone.runs if run.arm == "baseline"]
    alone.save(folder / "scenes" / "mae.json")
    assert page(read_suites(folder), folder) == whole
    assert write_figures(read_suites(folder), tmp_path / "b")[0].read_bytes() == left
    none = {"scenes": [alone]}
    assert "## Photographs" not in page(none, folder) and write_figures(none, tmp_path) == []
    with pytest.raises(UsageError, match="readme: "):
        insert_table(f"{BEGIN}\n{END}", none)


def test_seed_count_is_shown_per_column(folder: Path) -> None:
    fewer = make_evidence("scenes", "byol", 0.02)
    fewer.runs = [run for run in fewer.runs if run.arm == "baseline" or run.seed == 1]
    fewer.save(folder / "scenes" / "byol.json")
    text = page(read_suites(folder), folder)
    assert "| seeds | 3 | 1 |  |" in text
    assert "| kNN (top-1) | **-5.0** [-7.5, -2.5] ✓ | +2.0 |" in text


def test_one_seed_gives_no_verdict(folder: Path) -> None:
    hosts = read_suites(folder)["scenes"]
    for each in hosts:
        each.runs = [run for run in each.runs if run.seed == 0]
    by_text = {goal.text: goal for goal in goals(hosts)}
    assert by_text["kNN: significantly higher for half of the methods"].verdict == "not measured"


def test_goals_name_the_worst_method(folder: Path) -> None:
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


def test_unmeasured_metric_meets_no_goal() -> None:
    hosts = [make_evidence("scenes", method, 0.02) for method in ("simclr", "byol")]
    text = "robustness, mean of 15 corruptions: not lower for any method"
    assert {goal.text: goal for goal in goals(hosts)}[text].met
    hosts[1].runs[-1].metrics["robustness"] = math.nan  # of a task that could not be measured
    found = {goal.text: goal for goal in goals(hosts)}[text]
    assert (found.worst, found.verdict) == ("none (byol)", "not measured")


def test_no_goal_table_without_goal_metrics(folder: Path) -> None:
    other = make_evidence("pair_interaction", "byol", 0.02)
    for run in other.runs:
        gain = 0.2 + 0.01 * run.seed if run.arm == "sp" else 0.11
        run.metrics = {"pair_interaction_gain": gain}
    other.save(folder / "pair_interaction" / "byol.json")
    whole = page(read_suites(folder), folder)
    text = whole.split("## What two crops predict jointly")[1].split("## Trials")[0]
    assert "gain over one view (R2) | **+0.100**" in text
    goals_heading = "<summary>Goals</summary>"
    assert goals_heading not in text and "not measured" not in text
    assert goals_heading in whole


def test_trial_shows_settings_and_prediction(folder: Path) -> None:
    text = page(read_suites(folder), folder)
    assert "| w3 | weight 5 of the host's gradient, max_iou=[1.0,0.1] | +1.0 [-1.5, +3.5] |" in text
    assert "- **w3**: w3 is far better." in text
    assert "Little improved." in text


def test_trial_shows_pretext_task_and_cost(folder: Path) -> None:
    trials = make_evidence("tune", "simclr", 0.01, ("peer", "more"))
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


def test_gain_is_drawn_against_cost(folder: Path) -> None:
    trials = make_evidence("tune", "simclr", 0.01, ("half", "longer"))
    cost = {"baseline": 2e12, "half": 2.5e12, "longer": 3e12, "sp": 4e12}
    for run in trials.runs:
        run.flops = cost[run.arm]
    trials.save(folder / "tune" / "simclr.json")
    suites = read_suites(folder)
    figure = cost_figure(suites["tune"], [known_metrics()["knn"]])
    points = sorted(tuple(dots.get_offsets()[0]) for dots in figure.axes[0].collections)
    expected = [(1.25, 1.0), (1.5, 1.0), (2.0, 1.0)]  # cost, points above the baseline
    torch.testing.assert_close(torch.tensor(points), torch.tensor(expected, dtype=torch.float64))
    (line,) = (line for line in figure.axes[0].lines if line.get_linestyle() == "--")
    assert line.get_xydata().tolist() == [[1, 0], [1.5, pytest.approx(1.0)]]
    assert folder / "tune.png" in write_figures(suites, folder)
    assert "![](tune.png)" in page(suites, folder)


def test_trials_are_compared_with_longer(folder: Path) -> None:
    trials = make_evidence("tune", "simclr", 0.01, ("half", "longer"))
    for run in trials.runs:
        spread = 0.031 if run.arm == "half" else 0.03
        knn = {"half": 0.599, "longer": 0.58}.get(run.arm, 0.5) + spread * run.seed
        run.metrics = {"knn": knn}
    trials.save(folder / "tune" / "simclr.json")
    text = page(read_suites(folder), folder).split("trial less longer</summary>")[1]
    table = text.split("</details>")[0].splitlines()
    assert "The baseline with SP's extra compute spent on more epochs." in table
    mean, (half,) = (
        [line for line in table if line.startswith(f"| {name}")] for name in ("longer", "half")
    )
    assert mean == ["| longer |  | 61.0 | 3 |  |"]
    assert "| **+2.0** [+1.8, +2.2] ✓ |" in half
    assert not any(line.startswith("| baseline") for line in table)


def test_trials_show_their_seeds(folder: Path) -> None:
    trials = make_evidence("tune", "simclr", 0.01, ("half",))
    trials.runs = [run for run in trials.runs if (run.arm, run.seed) != ("half", 2)]
    trials.save(folder / "tune" / "simclr.json")
    table = page(read_suites(folder), folder).split("trial less baseline</summary>")[1]
    rows = {line.split(" | ")[0]: line for line in table.splitlines()}
    assert rows["| trial"].endswith("| seeds | cost |")
    assert rows["| baseline"].endswith("| 3 |  |") and rows["| half"].endswith("| 2 |  |")


def test_no_figure_without_longer(folder: Path) -> None:
    suites = read_suites(folder)
    assert folder / "tune.png" not in write_figures(suites, folder)
    text = page(suites, folder)
    assert "![](tune.png)" not in text and "trial less longer" not in text


def test_readme_table_is_replaced(folder: Path) -> None:
    found = read_suites(folder)
    before = f"# X\n{BEGIN}\nold\n{END}\nrest\n"
    after = insert_table(before, found)
    assert after.startswith("# X\n") and after.endswith("rest\n") and "old" not in after
    assert "| kNN (top-1) | **-5.0** [-7.5, -2.5] ✓ |" in after
    assert insert_table(after, found) == after
    with pytest.raises(UsageError, match="readme: no"):
        insert_table("# X", found)


def test_readme_excludes_trials(folder: Path) -> None:
    found, text = read_suites(folder), f"{BEGIN}\n{END}"
    first = {"cifar": found["scenes"], "tune": found["tune"]}
    assert insert_table(text, first) == insert_table(text, {"scenes": found["scenes"]})
    with pytest.raises(UsageError, match="readme: of trials alone"):
        insert_table(text, {"tune": found["tune"]})


def test_figures_are_reproducible(folder: Path, tmp_path: Path) -> None:
    first = write_figures(read_suites(folder), tmp_path / "a")
    second = write_figures(read_suites(folder), tmp_path / "b")
    assert [path.name for path in first] == ["scenes.png"]
    assert first[0].read_bytes() == second[0].read_bytes()


def test_only_measured_metrics_are_shown(folder: Path) -> None:
    keys = [metric.key for metric in headlines(read_suites(folder)["scenes"])]
    pairs = ("pair_equal_gain", "pair_dx_gain", "pair_dy_gain", "pair_scale_gain")
    assert keys == ["knn", *pairs, "pair_scale_equal_gain", "robustness"]


def test_missing_json_is_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"results: no SUITE/METHOD\.json"):
        read_suites(tmp_path)


def test_committed_results_use_todays_names() -> None:
    suites = read_suites(COMMITTED)
    trials = ["tune", "tune-cost", "tune-first", "tune-small"]
    assert list(suites) == ["finals", "pair_interaction", "scenes", *trials]
    derived = {f"pair_{name}_equal_gain" for name in ("dx", "dy", "scale")} | {"pair_equal_gain"}
    for methods in suites.values():
        assert measured_keys(methods) <= known_metrics().keys() | derived
        for evidence in methods:
            for arm in evidence.arms.values():
                SPConfig.from_dict(arm["sp"])
    (first, *_) = suites["pair_interaction"]
    assert first.command == "sp-bench suite configs/bench/pair_interaction.yaml"
    assert first.settings["tasks"] == ["pair_interaction"]
