"""Linear probe: recognition by logistic regression on frozen features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from sp_bench.data.dataset import ImageDataset
from sp_bench.data.stratify import split_off
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.stats import pack_correct
from sp_bench.tasks.task import (
    EVALUATION_SEED,
    SEMANTIC,
    Task,
    TaskContext,
    most_frequent,
    percent_control,
)

# scikit-learn's C, from strong L2 to weak, in half decades.
STRENGTHS = np.logspace(-4, 1, 11)
_HELD_OUT = 0.2
_ITERATIONS = 1000  # 20 to 90 are needed on standardised features
# Two threads of BLAS take 5 times as long as one for 2,000 features of width 256, 1.4 times for
# 20,000: each step is so short that they wait for each other.
_FEW_NUMBERS = 2**23


def choose_strength(features: np.ndarray, labels: np.ndarray) -> float:
    """C with the best accuracy on a held-out fifth of each class; in a tie the strongest L2.

    Args:
        features: (N, D) of the training images.
        labels: (N,).

    Returns:
        One of ``STRENGTHS``; the middle one if fewer than two classes remain to fit on.
    """
    rest, held_out = split_off(labels, _HELD_OUT, EVALUATION_SEED)
    if len(np.unique(labels[rest])) < 2:
        return float(STRENGTHS[len(STRENGTHS) // 2])
    scaler = StandardScaler().fit(features[rest])
    fit, score = scaler.transform(features[rest]), scaler.transform(features[held_out])
    # Each fit starts from the previous, stronger one: the same optimum, sooner.
    model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
    accuracy = [
        model.set_params(C=strength).fit(fit, labels[rest]).score(score, labels[held_out])
        for strength in STRENGTHS
    ]
    return float(STRENGTHS[int(np.argmax(accuracy))])


def fit_probe(features: np.ndarray, labels: np.ndarray) -> Any:
    """Multinomial logistic regression by L-BFGS on standardised features, with L2 chosen.

    Args:
        features: (N, D) of the training images.
        labels: (N,), at least two classes.

    Returns:
        Fitted scikit-learn pipeline.
    """
    with threadpool_limits(1 if features.size <= _FEW_NUMBERS else None, user_api="blas"):
        strength = choose_strength(features, labels)
        model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
        return make_pipeline(StandardScaler(), model).fit(features, labels)


def cached_probe(backbone: FrozenBackbone, train: ImageDataset) -> Any:
    """Linear probe fitted on a data set, once for all tasks.

    Raises:
        UnmeasurableError: all images are of one class.
    """
    if len(set(train.labels.tolist())) < 2:
        raise UnmeasurableError("data: all training images are of one class, takes two or more")
    labels = train.labels.numpy()
    return backbone.cached(
        train, "probe", lambda: fit_probe(backbone.features(train).numpy(), labels)
    )


def run(context: TaskContext) -> dict[str, float]:
    """Top-1 accuracy on the test images of a probe fitted on the training images."""
    test = context.splits.test
    probe = cached_probe(context.backbone, context.splits.train)
    features = context.backbone.features(test).numpy()
    correct = probe.predict(features) == test.labels.numpy()
    context.correct["linear"] = pack_correct(correct)
    return {"linear": float(correct.mean()), "linear_chance": most_frequent(test.labels)}


TASK = Task(
    "linear",
    (
        MetricSpec("linear", "linear probe (top-1)", percent=True),
        percent_control("linear_chance", "linear probe: most frequent class"),
    ),
    run,
    quality=SEMANTIC,
)
