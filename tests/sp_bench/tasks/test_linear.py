from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.stats import unpack_correct
from sp_bench.tasks.linear import STRENGTHS, TASK, choose_strength, fit_probe


def clouds(n: int, d: int, seed: int = 0, noise: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping clouds in d dimensions, and ``noise`` dimensions without information."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    middle = np.random.default_rng(99).normal(size=(3, d))[labels]
    points = middle + 1.5 * rng.normal(size=(n, d))
    return np.hstack([points, rng.normal(size=(n, noise))]).astype(np.float32), labels


def correlated_clouds(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds whose dimensions are correlated: to separate them takes a weak penalty."""
    points, labels = clouds(n, 5, seed)
    return points @ (1 + 0.3 * np.random.default_rng(1).normal(size=(5, 5))), labels


def test_probe_matches_scikit_learn():
    (fit, labels), (score, _) = correlated_clouds(300), correlated_clouds(200, seed=1)
    strength = choose_strength(fit, labels)
    assert strength > 0.1
    mean, sd = fit.mean(axis=0), fit.std(axis=0)
    reference = LogisticRegression(C=strength, max_iter=2000, tol=1e-8)
    reference.fit((fit - mean) / sd, labels)
    expected = reference.predict_proba((score - mean) / sd)
    np.testing.assert_allclose(fit_probe(fit, labels).predict_proba(score), expected, atol=2e-3)


def test_chosen_strength_is_near_the_best():
    (fit, labels), (score, truth) = clouds(400, 20, noise=150), clouds(900, 20, seed=1, noise=150)
    fit, score = fit / fit.std(axis=0), score / fit.std(axis=0)
    reached = {
        strength: LogisticRegression(C=strength, max_iter=1000).fit(fit, labels).score(score, truth)
        for strength in STRENGTHS
    }
    chosen = reached[choose_strength(fit, labels)]
    assert chosen > max(reached.values()) - 0.015
    assert chosen > min(reached.values()) + 0.02


def test_ties_take_the_strongest_penalty():
    labels = np.arange(100) % 2
    far_apart = np.stack([labels * 100.0, np.zeros(100)], axis=1)
    assert choose_strength(far_apart, labels) == STRENGTHS[0]


@settings(max_examples=10)
@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_feature_units_do_not_matter(scale, shift):
    fit, labels = clouds(90, 4)
    score, _ = clouds(60, 4, seed=1)
    unit = np.array([scale, 1, 1, 1])
    fit, score = fit.astype(float), score.astype(float)
    moved = fit_probe(fit * unit + shift, labels).predict_proba(score * unit + shift)
    np.testing.assert_allclose(moved, fit_probe(fit, labels).predict_proba(score), atol=5e-3)


def test_fit_converges():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_probe(*correlated_clouds(300))


def test_classes_of_one_image_are_fitted():
    features, _ = clouds(4, 3)
    assert choose_strength(features, np.arange(4)) in STRENGTHS
    assert fit_probe(features, np.arange(4)).predict(features).tolist() == [0, 1, 2, 3]


def test_one_class_is_refused(net, arrays, tints, make_context):
    alone = arrays(tints.train.pixels, np.zeros(len(tints.train)))
    with pytest.raises(UnmeasurableError, match="of one class"):
        TASK.run(make_context(net, Splits("alone", alone, alone)))


def test_top_1_is_share_of_correct_images(net, tints, make_context):
    context = make_context(net, tints)
    probe = fit_probe(context.backbone.features(tints.train).numpy(), tints.train.labels.numpy())
    found = probe.predict(context.backbone.features(tints.test).numpy())
    correct = found == tints.test.labels.numpy()
    share = correct.mean()
    chance = np.bincount(tints.test.labels).max() / len(tints.test)
    found = TASK.run(context)
    assert found == {"linear": pytest.approx(share), "linear_chance": pytest.approx(chance)}
    assert (unpack_correct(context.correct["linear"]) == correct).all()
    assert 0.5 < share < 1
