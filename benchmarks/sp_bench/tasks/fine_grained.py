"""Fine-grained recognition: kNN and linear probe on fine classes, as the mean over classes.

Fine classes are seldom equally large; each counts the same here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sp_bench.data.fine import load_fine
from sp_bench.results import MetricSpec
from sp_bench.tasks import Task, TaskContext
from sp_bench.tasks.knn import predict
from sp_bench.tasks.linear import probe_of


def class_mean(truth: Tensor, found: Tensor) -> float:
    """Mean over the classes in truth of the share of their images that was put right.

    >>> class_mean(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]))
    0.8333333333333333
    """
    right = (truth == found).double()
    counts, hits = truth.bincount(), truth.bincount(weights=right)
    return float((hits[counts > 0] / counts[counts > 0]).mean())


def run(subject: TaskContext) -> dict[str, float]:
    """Class means on the test images."""
    backbone, train, test = subject.backbone, subject.splits.train, subject.splits.test
    probe = probe_of(backbone, train)
    bank, queries = backbone.features(train), backbone.features(test)
    near = predict(bank, train.labels, queries, len(train.classes))
    linear = torch.from_numpy(probe.predict(queries.numpy()))
    return {
        "fine_grained_linear": class_mean(test.labels, linear),
        "fine_grained_knn": class_mean(test.labels, near),
        # The same whether a rule says always the same class or any at random.
        "fine_grained_chance": 1 / len(test.labels.unique()),
    }


TASK = Task(
    "fine_grained",
    (
        MetricSpec("fine_grained_linear", "fine-grained: linear probe (class mean)", percent=True),
        MetricSpec("fine_grained_knn", "fine-grained: kNN (class mean)", percent=True),
        MetricSpec("fine_grained_chance", "fine-grained: chance", percent=True, headline=False),
    ),
    run,
    load_fine,
)
