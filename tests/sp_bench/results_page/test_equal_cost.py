"""The answers, goals and figure of a suite that has `longer`, from runs made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sp_bench.report.comparison_table import known_metrics
from sp_bench.results import Run
from sp_bench.results_page.answers import answers_table
from sp_bench.results_page.differences import differences
from sp_bench.results_page.forests import methods_figure
from sp_bench.results_page.goals_at_equal_cost import goals_at_equal_cost
from sp_bench.results_page.page import BEGIN, END, insert_table, page, write_figures
from sp_bench.sweeps.collect import Evidence
from suite_evidence import evidence_of

JIGSAW = "jigsaw_3x3_piece"
BASELINE = {JIGSAW: 0.3, "jigsaw_2x2_perfect": 0.4, "pair_interaction_gain": 0.1}
BASELINE |= {"knn": 0.7, "linear": 0.75, "robustness_v2": 0.6}
ORDERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1))  # of the seeds, by arm
WHERE = {JIGSAW: 0.36, "jigsaw_2x2_perfect": 0.48, "pair_interaction_gain": 0.16}


def make_evidence(method: str, **arms: dict[str, float]) -> Evidence:
    """Three seeds of each arm; an arm's metrics differ from the baseline's by those given.

    The seeds of an arm lie 0.001 apart, in another order for each arm, so that differences have a
    spread.
    """
    arms = {"baseline": {}, **arms}
    runs = [
        Run(
            arm,
            seed,
            {
                key: changed.get(key, value) + 0.001 * ORDERS[order][seed]
                for key, value in BASELINE.items()
            },
            flops=10e12 if arm == "baseline" else 11e12,
        )
        for order, (arm, changed) in enumerate(arms.items())
        for seed in range(3)
    ]
    own: dict[str, Any] = {"epochs": 3, "pretext": "sp", "prediction": "", "sp": {}}
    return evidence_of("finals", method, dict.fromkeys(arms, own), runs)


@pytest.fixture
def methods() -> list[Evidence]:
    good = make_evidence("simclr", sp=WHERE, longer={"knn": 0.702})
    # BYOL with SP loses robustness against both, and kNN against `longer` alone.
    bad = make_evidence("byol", sp={**WHERE, "robustness_v2": 0.5}, longer={"knn": 0.72})
    return [good, bad]


def find(methods: list[Evidence], row: str, column: int = 1) -> str:
    (found,) = (
        line[column] for line in answers_table(methods).rows if str(line[0]).startswith(row)
    )
    return str(found)


def test_gains_are_means_and_counts(methods: list[Evidence]) -> None:
    assert find(methods, "jigsaw 2x2: images") == "+8.0 (2 of 2 better)"
    assert find(methods, "jigsaw 3x3: patches") == "+6.0 (2 of 2 better)"
    assert find(methods, "pair interaction") == "+0.060 (2 of 2 better)"
    assert find(methods, "kNN") == "+0.0"
    assert find(methods, "robustness") == "-5.0 (1 of 2 worse)"
    assert find(methods, "kNN", 2) == "-1.1 (1 of 2 worse)"


def test_three_methods_have_an_interval(methods: list[Evidence]) -> None:
    methods.append(make_evidence("moco", sp={"knn": 0.73}, longer={}))
    low, high = 0.01 - 4.303 * 0.0173 / 3**0.5, 0.01 + 4.303 * 0.0173 / 3**0.5  # of 0, 0, 0.03
    expected = f"+1.0 [{100 * low:+.1f}, {100 * high:+.1f}] (1 of 3 better)"
    assert find(methods, "kNN") == expected


def test_losses_are_counted_and_named(methods: list[Evidence]) -> None:
    # A loss of half a point that the correction does not leave: its p is 0.04.
    for run in methods[0].runs:
        if run.arm == "sp":
            run.metrics["linear"] = BASELINE["linear"] + (-0.0045, -0.007, -0.0096)[run.seed]
        else:
            run.metrics["linear"] = BASELINE["linear"]
    worse = "robustness: mean of 15 corruptions, byol"
    note = answers_table(methods).note
    end = f"2 of 12 are worse, after the correction 1 ({worse})."
    assert f"SP less baseline (simclr, byol): {end}" in note
    end = f"3 of 12 are worse, after the correction 2 (kNN, byol; {worse})."
    assert f"SP less more epochs (simclr, byol): {end}" in note


def test_cost_names_its_ends(methods: list[Evidence]) -> None:
    for run in methods[1].runs:
        run.flops = 10e12 if run.arm == "longer" else 5e12
    assert find(methods, "forward FLOPs") == "x1.00 (byol) to x1.10 (simclr)"
    assert find(methods, "forward FLOPs", 2) == "x0.50 (byol) to x1.00 (simclr)"


def test_views_alone_have_a_column_if_run(methods: list[Evidence]) -> None:
    assert len(answers_table(methods).columns) == 3
    methods[0] = make_evidence("simclr", sp=WHERE, longer={}, unsupervised={"linear": 0.76})
    table = answers_table(methods)
    assert table.columns[1].name == "SP less baseline"
    assert table.columns[3].name == "shuffled targets less baseline (simclr)"
    assert "shuffled targets less baseline (simclr): " in table.note
    assert find(methods, "linear probe", 3) == "+1.0 (1 of 1 better)"


def test_one_correction_covers_the_table(methods: list[Evidence]) -> None:
    runs = methods[0].runs
    metrics = [known_metrics()[key] for key in BASELINE]
    for run in runs:  # one difference of p = 0.02 among those without any
        values = {"baseline": (0.7, 0.7, 0.7), "sp": (0.715, 0.72, 0.725), "longer": (0.7,) * 3}
        run.metrics = {**BASELINE, "knn": values[run.arm][run.seed]}
    alone = differences(methods[:1], metrics[3:4], "baseline", "sp")
    assert [found.verdict for found in alone] == ["better"]
    for run in runs:
        others = BASELINE.keys() - {"knn"}
        shift = 0.01 * (run.seed - 1) if run.arm == "sp" else 0.0
        run.metrics |= {key: BASELINE[key] + shift for key in others}
    family = differences(methods[:1], metrics, "baseline", "sp")
    assert [found.verdict for found in family] == [""] * len(metrics)


def test_goals_are_against_both(methods: list[Evidence]) -> None:
    goals = {goal.text: goal for goal in goals_at_equal_cost(methods)}

    def outcome(start: str) -> tuple[str, bool | None]:
        (found,) = (goal for text, goal in goals.items() if text.startswith(start))
        return found.worst, found.met

    assert outcome("jigsaw 3x3, patches put right") == ("+6.0 (mean of 2)", True)
    assert outcome("jigsaw 2x2, images wholly right") == ("+8.0 (mean of 2)", False)
    assert outcome("pair interaction") == ("+0.060 (mean of 2)", True)
    assert outcome("jigsaw 2x2, images: better") == ("2 of 2", True)
    assert outcome("robustness") == ("1 of 2", False)
    assert outcome("kNN") == ("1 of 2", True)  # SimCLR is 0.2 points below
    assert outcome("linear probe") == ("2 of 2", True)
    assert outcome("cost at most 1.15") == ("1.10 (simclr)", True)
    assert outcome("cost with MAE") == ("", None)


def test_one_seed_meets_no_significance(methods: list[Evidence]) -> None:
    for evidence in methods:
        evidence.runs = [run for run in evidence.runs if run.seed == 0]
    goals = {goal.text: goal.verdict for goal in goals_at_equal_cost(methods)}
    assert (
        goals["jigsaw 3x3, patches: better for each method after the correction"] == "not measured"
    )
    assert (
        "SP less baseline (simclr, byol): one seed has no interval." in answers_table(methods).note
    )


def test_equal_cost_comes_first(methods: list[Evidence], tmp_path: Path) -> None:
    plain = make_evidence("simclr", sp=WHERE)
    suites = {"scenes": [plain], "finals": methods}
    text = page(suites, tmp_path)
    assert text.index("at equal cost\n") < text.index("## Photographs of scenes, with SP on every")
    assert "| goal | worst value | result |" in text
    answers = answers_table(methods)
    shown = f"{answers.to_markdown()}\n{answers.note}\n"
    assert shown in text.split("![](finals-longer.png)")[0]
    readme = insert_table(f"{BEGIN}\n{END}", suites)
    assert shown in readme and "torch 2" not in readme
    names = [path.name for path in write_figures(suites, tmp_path)]
    assert sorted(names) == ["finals-longer.png", "finals.png", "scenes.png"]


def test_figure_subtracts_longer(methods: list[Evidence]) -> None:
    knn = [known_metrics()["knn"]]
    means = []
    for baseline in ("baseline", "longer"):
        axes = methods_figure(methods, knn, baseline).axes[0]
        places = np.concatenate([np.asarray(line.get_xdata()) for line in axes.lines])
        means.append(float(places.min()))
    assert means[1] < -1.9, "kNN of BYOL with SP is 2.0 points below longer"
    assert means[0] > -1.0


def test_mean_is_drawn_from_three_methods(methods: list[Evidence]) -> None:
    knn = [known_metrics()["knn"]]
    third = make_evidence("moco", sp=WHERE, longer={})
    names = [
        [label.get_text() for label in methods_figure(shown, knn).axes[0].get_yticklabels()]
        for shown in (methods, [*methods, third])
    ]
    assert "mean over methods" not in names[0] and len(names[0]) == 2
    assert "mean over methods" in names[1] and len(names[1]) == 4


def test_facts_that_differ_name_their_method(methods: list[Evidence], tmp_path: Path) -> None:
    text = page({"finals": methods}, tmp_path)
    assert "views of 32 px" in text and "(byol" not in text.split(": ")[1]
    other = methods[1]
    other.settings |= {"side": 64, "batch_size": 16}
    other.data["train"] = 5000
    other.arms["baseline"] = {**other.arms["baseline"], "epochs": 20}
    other.machine["device"] = "cuda"
    other.versions["torch"] = "2.14.1"
    text = page({"finals": methods}, tmp_path)
    for fact in (
        "10,000 (byol 5,000) training images, 3,000 held out",
        "3 (byol 20) epochs, batches of 8 (byol 16), views of 32 (byol 64) px",
        "cpu (x) (byol cuda (x)), 32-true; torch 2.15.0 (byol 2.14.1).",
    ):
        assert fact in text
