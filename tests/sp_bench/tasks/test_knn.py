from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from sp_bench.stats import unpack_correct
from sp_bench.tasks import knn
from sp_bench.tasks.knn import TASK, num_neighbours, predict_knn


def clouds(n: int, d: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping clouds with random norms, so that many votes are close."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    middle = np.random.default_rng(99).normal(size=(classes, d))[labels]
    points = (middle + 1.2 * rng.normal(size=(n, d))) * rng.uniform(0.1, 10, (n, 1))
    return torch.from_numpy(points), torch.from_numpy(labels)


def test_near_vote_outweighs_many_far():
    # At cosine 1 a vote is exp(10) = 22026; at 0.6 it is exp(6) = 403, and 19 of them are 7665.
    bank = torch.cat([torch.tensor([[2.0, 0.0]]), torch.tensor([[0.6, 0.8]]).repeat(19, 1)])
    labels = torch.tensor([0] + [1] * 19)
    query = torch.tensor([[5.0, 0.0]])
    assert predict_knn(bank, labels, query, 2).tolist() == [0]
    # At 0.8 it is exp(8) = 2981, and 19 of them are 56638.
    bank[1:] = torch.tensor([0.8, 0.6])
    assert predict_knn(bank, labels, query, 2).tolist() == [1]


def test_only_the_nearest_twenty_vote():
    # 20 at cosine 0.9 against 200 at 0.8: if all voted, the many would win.
    near, far = torch.tensor([[0.9, 0.19**0.5]]), torch.tensor([[0.8, 0.6]])
    bank = torch.cat([near.repeat(20, 1), far.repeat(200, 1)])
    labels = torch.tensor([0] * 20 + [1] * 200)
    assert predict_knn(bank, labels, torch.tensor([[1.0, 0.0]]), 2).tolist() == [0]


def test_predict_matches_scikit_learn():
    (bank, labels), (queries, _) = clouds(400, 8, 5), clouds(300, 8, 5, seed=1)
    reference = KNeighborsClassifier(
        20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1)
    ).fit(bank, labels)
    expected = reference.predict(queries)
    assert predict_knn(bank, labels, queries, 5).tolist() == expected.tolist()
    assert 0.3 < (expected == clouds(300, 8, 5, seed=1)[1].numpy()).mean() < 0.95


def test_batch_size_does_not_matter(monkeypatch):
    (bank, labels), (queries, _) = clouds(100, 8, 5), clouds(50, 8, 5, seed=1)
    whole = predict_knn(bank, labels, queries, 5)
    monkeypatch.setattr(knn, "_MAX_NUMBERS", 700)
    assert torch.equal(predict_knn(bank, labels, queries, 5), whole)


@given(st.permutations(range(30)), st.floats(0.01, 100))
def test_bank_order_and_scale_do_not_matter(order, length):
    (bank, labels), (queries, _) = clouds(30, 4, 3), clouds(10, 4, 3, seed=1)
    found = predict_knn(bank[order] * length, labels[order], queries / length, 3)
    assert torch.equal(found, predict_knn(bank, labels, queries, 3))


@pytest.mark.parametrize(
    ("bank", "k"), [(1, 1), (19, 19), (20, 20), (49_999, 20), (50_000, 200), (10**6, 200)]
)
def test_number_of_neighbors(bank, k):
    assert num_neighbours(bank) == k


def test_top_1_matches_scikit_learn(net, tints, make_context):
    context = make_context(net, tints)
    bank, queries = (context.backbone.features(part) for part in (tints.train, tints.test))
    reference = KNeighborsClassifier(
        20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1)
    ).fit(bank, tints.train.labels)
    share = reference.score(queries, tints.test.labels)
    chance = np.bincount(tints.test.labels).max() / len(tints.test)
    assert TASK.run(context) == {"knn": pytest.approx(share), "knn_chance": pytest.approx(chance)}
    correct = reference.predict(queries) == tints.test.labels.numpy()
    assert (unpack_correct(context.correct["knn"]) == correct).all()
    assert 0.25 < share < 1
