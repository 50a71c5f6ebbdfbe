"""Ranks of models over the tasks of a kind, and the order of their rows."""

from __future__ import annotations

import math
from typing import Any

from sp_bench.report.model_ranking import rank_models, ranking_table
from sp_bench.report.run_table import RunFolder

# Best in what: "where" in all spatial tasks, "what" in all semantic ones, "random" in everything.
METRICS = {
    "what": {"knn": 0.9, "linear": 0.9, "pair_dx_gain": 0.1, "depth_rmse": 0.9},
    "where": {"knn": 0.8, "linear": 0.9, "pair_dx_gain": 0.3, "depth_rmse": 0.2},
    "neither": {"knn": 0.1, "linear": 0.1, "pair_dx_gain": 0.2, "depth_rmse": 0.5},
    "random": {"knn": 1.0, "linear": 1.0, "pair_dx_gain": 0.9, "depth_rmse": 0.1},
}


def folder(name: str, **changed: Any) -> RunFolder:
    evaluation = {
        "settings": {"mean": None, "std": None},
        "checkpoint": {"path": "" if name == "random" else "pretrained"},
        "metrics": METRICS[name],
        "compute": {"forward_flops": 3.64e9, "parameters": 11.2e6, "side": 224.0},
    }
    return RunFolder(name, None, {**evaluation, **changed})


def test_rows_are_in_order_of_rank():
    ranked = rank_models([folder(name) for name in ("random", "what", "neither", "where")])
    assert [model.name for model in ranked] == ["where", "what", "neither", "random"]
    ranks = {model.name: (model.ranks["spatial"], model.ranks["semantic"]) for model in ranked}
    assert ranks["where"] == (1, (2 + 1.5) / 2) and ranks["what"] == (3, (1 + 1.5) / 2)
    assert ranks["neither"] == (2, 3)
    table = ranking_table(ranked)
    cells = [[cell.text for cell in row] for row in table.cells]
    assert cells[0] == ["where", "1.00", "1.75", "11.2", "3.64", "224 px", "ImageNet's"]
    assert cells[3][1:3] == ["\N{EN DASH}"] * 2
    assert [[cell.bold for cell in row[1:3]] for row in table.cells[:2]] == [
        [True, False], [False, True],
    ]  # fmt: skip


def test_values_equal_as_shown_share_a_rank():
    close = {**METRICS["what"], "pair_dx_gain": 0.1001, "knn": 0.8996}
    ranked = rank_models([folder("what"), folder("what", metrics=close)])
    assert all(rank == 1.5 for model in ranked for rank in model.ranks.values())


def test_unmeasured_metric_ranks_nobody():
    lacking = {**METRICS["where"], "depth_rmse": math.nan}
    ranked = rank_models([folder("what"), folder("where", metrics=lacking)])
    assert [model.ranks["spatial"] for model in ranked] == [1, 2]  # by the pair task alone
    nothing = rank_models([folder("what", metrics={}), folder("where")])
    assert all(math.isnan(rank) for model in nothing for rank in model.ranks.values())


def test_random_models_are_ranked_alone():
    ranked = rank_models([folder("random"), folder("random", metrics=METRICS["what"])])
    assert [model.ranks["spatial"] for model in ranked] == [1, 2]


def test_statistics_are_short():
    bands = {"mean": [0.5] * 13, "std": [0.1, 0.2, 0.3] + [0.4] * 10}
    table = ranking_table(rank_models([folder("what", settings=bands)]))
    assert table.cells[0][-1].text.split() == ["0.5", "...;", "0.1", "0.2", "0.3", "..."]
