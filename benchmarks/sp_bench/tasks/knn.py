"""kNN: recognition by the nearest neighbours, by cosine similarity s with votes of exp(s / 0.1).

The rule of Wu et al. 2018 (arXiv 1805.01978), as implemented by lightly.
"""

from __future__ import annotations

import torch
from lightly.utils.benchmarking import knn_predict
from torch import Tensor
from torch.nn import functional as F

from sp_bench.results import MetricSpec
from sp_bench.stats import pack_correct
from sp_bench.tasks.task import SEMANTIC, Task, TaskContext, most_frequent, percent_control

_TEMPERATURE = 0.1
_LARGE_BANK = 50_000
_MAX_NUMBERS = 2**25  # in the largest table of a batch: 128 MiB


def num_neighbours(bank_size: int) -> int:
    """Number of voting neighbours: 20, or 200 for a large bank, at most all.

    >>> num_neighbours(10), num_neighbours(49_999), num_neighbours(50_000)
    (10, 20, 200)
    """
    return min(bank_size, 200 if bank_size >= _LARGE_BANK else 20)


def predict_knn(bank: Tensor, labels: Tensor, queries: Tensor, num_classes: int) -> Tensor:
    """Classes that the nearest neighbours vote for.

    Args:
        bank: (N, D) features, of any norm.
        labels: (N,) int64.
        queries: (M, D) features.
        num_classes: number of classes.

    Returns:
        (M,) int64.

    >>> bank, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> predict_knn(bank, labels, torch.tensor([[9.0, 8.0], [1.0, 2.0]]), 2).tolist()
    [0, 1]
    """
    bank, queries = F.normalize(bank, dim=1).T, F.normalize(queries, dim=1)
    k = num_neighbours(len(labels))
    batch_size = max(1, _MAX_NUMBERS // max(len(labels), k * num_classes))
    predictions = [
        knn_predict(batch, bank, labels, num_classes, k, _TEMPERATURE)[:, 0]
        for batch in torch.split(queries, batch_size)
    ]
    return torch.cat(predictions)


def run(context: TaskContext) -> dict[str, float]:
    """Top-1 accuracy on the test images, with the training images as the bank."""
    train, test, device = context.splits.train, context.splits.test, context.backbone.device
    bank, queries = (context.backbone.features(split).to(device) for split in (train, test))
    prediction = predict_knn(bank, train.labels.to(device), queries, len(train.classes))
    correct = prediction.cpu() == test.labels
    context.correct["knn"] = pack_correct(correct.tolist())
    return {"knn": correct.double().mean().item(), "knn_chance": most_frequent(test.labels)}


TASK = Task(
    "knn",
    (
        MetricSpec("knn", "kNN (top-1)", percent=True),
        percent_control("knn_chance", "kNN: most frequent class"),
    ),
    run,
    quality=SEMANTIC,
)
