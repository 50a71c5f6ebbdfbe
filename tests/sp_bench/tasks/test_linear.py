from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.tasks.linear import STRENGTHS, TASK, choose_strength, fit_probe


def clouds(n: int, d: int, seed: int = 0, noise: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping clouds in d dimensions, and ``noise`` dimensions without information."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    middle = np.random.default_rng(99).normal(size=(3, d))[labels]
    points = middle + 1.5 * rng.normal(size=(n, d))
    return np.hstack([points, rng.normal(size=(n, noise))]).astype(np.float32), labels


def entangled(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds whose dimensions are correlated: to separate them takes a weak penalty."""
    points, labels = clouds(n, 5, seed)
    return points @ (1 + 0.3 * np.random.default_rng(1).normal(size=(5, 5))), labels


def test_it_is_scikit_learns_regression_at_the_strength_chosen_on_features_standardised_by_hand():
    (fit, labels), (score, _) = entangled(300), entangled(200, seed=1)
    strength = choose_strength(fit, labels)
    assert strength > 0.1
    mean, sd = fit.mean(axis=0), fit.std(axis=0)
    reference = LogisticRegression(C=strength, max_iter=2000, tol=1e-8)
    reference.fit((fit - mean) / sd, labels)
    expected = reference.predict_proba((score - mean) / sd)
    np.testing.assert_allclose(fit_probe(fit, labels).predict_proba(score), expected, atol=2e-3)


def test_the_strength_that_is_chosen_is_near_the_best_on_pictures_never_seen():
    (fit, labels), (score, truth) = clouds(400, 20, noise=150), clouds(900, 20, seed=1, noise=150)
    fit, score = fit / fit.std(axis=0), score / fit.std(axis=0)
    reached = {
        strength: LogisticRegression(C=strength, max_iter=1000).fit(fit, labels).score(score, truth)
        for strength in STRENGTHS
    }
    chosen = reached[choose_strength(fit, labels)]
    assert chosen > max(reached.values()) - 0.015
    assert chosen > min(reached.values()) + 0.02


def test_of_equally_good_strengths_the_strongest_penalty_is_taken():
    labels = np.arange(100) % 2
    far_apart = np.stack([labels * 100.0, np.zeros(100)], axis=1)
    assert choose_strength(far_apart, labels) == STRENGTHS[0]


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_units_of_features_are_of_no_account(scale, shift):
    fit, labels = clouds(90, 4)
    score, _ = clouds(60, 4, seed=1)
    unit = np.array([scale, 1, 1, 1])
    fit, score = fit.astype(float), score.astype(float)
    moved = fit_probe(fit * unit + shift, labels).predict_proba(score * unit + shift)
    np.testing.assert_allclose(moved, fit_probe(fit, labels).predict_proba(score), atol=5e-3)


def test_it_converges():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_probe(*entangled(300))


def test_classes_of_one_picture_are_fitted_too():
    features, _ = clouds(4, 3)
    assert choose_strength(features, np.arange(4)) in STRENGTHS
    assert fit_probe(features, np.arange(4)).predict(features).tolist() == [0, 1, 2, 3]


def test_one_class_alone_cannot_be_told_from_others(net, arrays, tints, ask):
    alone = arrays(tints.train.pixels, np.zeros(len(tints.train)))
    with pytest.raises(UnmeasurableError, match="of one class"):
        TASK.run(ask(net, Splits("alone", alone, alone)))


def test_top_1_is_the_share_of_test_pictures_put_right(net, tints, ask):
    context = ask(net, tints)
    probe = fit_probe(context.backbone.features(tints.train).numpy(), tints.train.labels.numpy())
    found = probe.predict(context.backbone.features(tints.test).numpy())
    share = (found == tints.test.labels.numpy()).mean()
    assert TASK.run(context) == {"linear": pytest.approx(share)}
    assert 0.5 < share < 1
