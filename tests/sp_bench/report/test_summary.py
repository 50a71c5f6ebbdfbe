"""The sentence of a comparison: what is better, worse, or neither."""

from __future__ import annotations

import pytest
from sp_bench.report.summary import summary_sentence
from sp_bench.results import MetricSpec, Results, Row

KNN, JIGSAW = MetricSpec("knn", "kNN", True), MetricSpec("jigsaw_2x2_piece", "jigsaw", True)


def row(metric, before, after, half, seeds=3):
    return Row(metric, before, after, after - before, after - before - half,
               after - before + half, seeds)  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([row(KNN, 0.5, 0.4, 0.05), row(JIGSAW, 0.5, 0.6, 0.05)],
         "SP: patches in place 50.0% -> 60.0%, recognition 50.0% -> 40.0%, worse: kNN; 3 seeds"),
        ([row(KNN, 0.5, 0.4, 0.2), row(JIGSAW, 0.5, 0.6, 0.2)],
         "SP: patches in place 50.0% -> 60.0% (not significant), "
         "recognition 50.0% -> 40.0% (not significant); 3 seeds"),
        ([row(KNN, 0.5, 0.4, float("nan"), seeds=1)],
         "SP: recognition 50.0% -> 40.0%; 1 seed, which gives no interval"),
        ([row(KNN, 0.5, 0.4, 0.2, seeds=0)],
         "SP: no metric was measured; 1 seed, which gives no interval"),
    ],
)  # fmt: skip
def test_sentence_says_what_is_significant(rows, says):
    assert summary_sentence(Results({}, {}, {}, {}, [], rows)) == says
