"""Decisions of the linear probe among a part of its classes."""

from __future__ import annotations

import numpy as np

from sp_bench.data.dataset import ImageDataset
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.tasks.linear import cached_probe


def decide(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Class with the best score among the allowed ones, (n,).

    Args:
        scores: (n, num_classes).
        allowed: (k,) classes that may be chosen.

    >>> decide(np.array([[0.5, 0.2, 0.3]]), np.array([1, 2])).tolist()
    [2]
    """
    return np.asarray(allowed[scores[:, allowed].argmax(axis=1)])


def probe_decisions(
    backbone: FrozenBackbone, train: ImageDataset, images: ImageDataset, allowed: np.ndarray
) -> np.ndarray:
    """Classes (n,) that the probe chooses for images, of the allowed ones.

    Args:
        backbone: frozen backbone.
        train: images that the probe is fitted on.
        images: n images of the same classes.
        allowed: (k,) classes that may be chosen.

    Raises:
        UnmeasurableError: a class has no training images.
    """
    probe = cached_probe(backbone, train)
    if not set(allowed) <= set(probe.classes_):
        raise UnmeasurableError("data: some classes of the test images have no training images")
    probabilities = probe.predict_proba(backbone.features(images).numpy())
    # The probe's columns are only the classes with training images.
    scores = np.zeros((len(probabilities), int(max(probe.classes_)) + 1))
    scores[:, probe.classes_] = probabilities
    return decide(scores, allowed)
