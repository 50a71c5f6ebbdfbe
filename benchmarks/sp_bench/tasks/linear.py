"""Linear probe: can a linear rule tell the classes? Logistic regression on frozen features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sp_bench.data.dataset import ImageDataset
from sp_bench.data.stratify import split_off
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks import EVALUATION_SEED, Task, TaskContext

# scikit-learn's C, from strong L2 to weak, in half decades.
STRENGTHS = np.logspace(-4, 1, 11)
_HELD_OUT = 0.2
_ITERATIONS = 1000  # it takes 20 to 90 where features are standardised


def choose_strength(features: np.ndarray, labels: np.ndarray) -> float:
    """The C with the best accuracy on a fifth of each class; of equals the strongest L2.

    Args:
        features: (N, D) of the training images.
        labels: (N,).

    Returns:
        One of ``STRENGTHS``; the one in the middle where too few images are left to try them.
    """
    kept, held_out = split_off(labels, _HELD_OUT, EVALUATION_SEED)
    if len(np.unique(labels[kept])) < 2:
        return float(STRENGTHS[len(STRENGTHS) // 2])
    scaler = StandardScaler().fit(features[kept])
    fit, score = scaler.transform(features[kept]), scaler.transform(features[held_out])
    # Each begins where the stronger one before it ended: the same optimum, sooner.
    model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
    accuracy = [
        model.set_params(C=strength).fit(fit, labels[kept]).score(score, labels[held_out])
        for strength in STRENGTHS
    ]
    return float(STRENGTHS[int(np.argmax(accuracy))])


def fit_probe(features: np.ndarray, labels: np.ndarray) -> Any:
    """Multinomial logistic regression by L-BFGS on standardised features, L2 chosen.

    Args:
        features: (N, D) of the training images.
        labels: (N,), at least two classes.

    Returns:
        A fitted scikit-learn pipeline.
    """
    strength = choose_strength(features, labels)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=_ITERATIONS))
    return probe.fit(features, labels)


def probe_of(backbone: FrozenBackbone, train: ImageDataset) -> Any:
    """The probe fitted on a set's images, once for all tasks that ask it.

    Raises:
        UnmeasurableError: all of the images are of one class.
    """
    if len(set(train.labels.tolist())) < 2:
        raise UnmeasurableError("data: all training images are of one class, takes two or more")
    labels = train.labels.numpy()
    return backbone.cached(
        train, "probe", lambda: fit_probe(backbone.features(train).numpy(), labels)
    )


def run(subject: TaskContext) -> dict[str, float]:
    """Top-1 on the test images of a probe fitted on the training images."""
    test = subject.splits.test
    probe = probe_of(subject.backbone, subject.splits.train)
    score = subject.backbone.features(test).numpy()
    return {"linear": float(probe.score(score, test.labels.numpy()))}


# Chance is the share of the most frequent class: it depends on the data.
TASK = Task("linear", (MetricSpec("linear", "linear probe (top-1)", percent=True),), run)
