"""kNN: does an image lie near those of its class? Cosine similarity, votes of exp(s / 0.1).

The rule of Wu et al. 2018 (arXiv 1805.01978), as lightly has it.
"""

from __future__ import annotations

import torch
from lightly.utils.benchmarking import knn_predict
from torch import Tensor
from torch.nn import functional as F

from sp_bench.results import MetricSpec
from sp_bench.tasks import Task, TaskContext

_TEMPERATURE = 0.1
_LARGE_BANK = 50_000
_NUMBERS = 2**25  # in the largest table of a batch: 128 MiB


def neighbours(bank: int) -> int:
    """How many neighbours vote: 20, or 200 of a large bank, and no more than there are.

    >>> neighbours(10), neighbours(49_999), neighbours(50_000)
    (10, 20, 200)
    """
    return min(bank, 200 if bank >= _LARGE_BANK else 20)


def predict(bank: Tensor, labels: Tensor, queries: Tensor, classes: int) -> Tensor:
    """The class that the nearest neighbours vote for.

    Args:
        bank: (N, D) features, of any length.
        labels: (N,) int64.
        queries: (M, D).
        classes: number of classes.

    Returns:
        (M,) int64.

    >>> bank, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> predict(bank, labels, torch.tensor([[9.0, 8.0], [1.0, 2.0]]), 2).tolist()
    [0, 1]
    """
    bank, queries = F.normalize(bank, dim=1).T, F.normalize(queries, dim=1)
    k = neighbours(len(labels))
    batch = max(1, _NUMBERS // max(len(labels), k * classes))
    votes = [
        knn_predict(part, bank, labels, classes, k, _TEMPERATURE)[:, 0]
        for part in torch.split(queries, batch)
    ]
    return torch.cat(votes)


def run(subject: TaskContext) -> dict[str, float]:
    """Top-1 on the test images, with the training images as the bank."""
    train, test, device = subject.splits.train, subject.splits.test, subject.backbone.device
    bank, queries = (subject.backbone.features(part).to(device) for part in (train, test))
    found = predict(bank, train.labels.to(device), queries, len(train.classes))
    return {"knn": (found.cpu() == test.labels).double().mean().item()}


# Chance is the share of the most frequent class: it depends on the data.
TASK = Task("knn", (MetricSpec("knn", "kNN (top-1)", percent=True),), run)
