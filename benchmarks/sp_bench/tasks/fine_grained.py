"""Fine-grained recognition: kNN and linear probe on fine classes, as the mean over classes.

Fine classes rarely have equal sizes; each counts the same here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sp_bench.data.fine import load_fine
from sp_bench.results import MetricSpec
from sp_bench.tasks.knn import predict_knn
from sp_bench.tasks.linear import cached_probe
from sp_bench.tasks.task import SEMANTIC, Task, TaskContext, percent_control


def class_mean(prediction: Tensor, target: Tensor) -> float:
    """Mean over the classes in ``target`` (N,) of the accuracy of ``prediction`` (N,) on them.

    >>> class_mean(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1]))
    0.8333333333333333
    """
    correct = (target == prediction).double()
    counts, hits = target.bincount(), target.bincount(weights=correct)
    return float((hits[counts > 0] / counts[counts > 0]).mean())


def run(context: TaskContext) -> dict[str, float]:
    """Class means on the test images."""
    backbone, train, test = context.backbone, context.splits.train, context.splits.test
    probe = cached_probe(backbone, train)
    bank, queries = backbone.features(train), backbone.features(test)
    knn = predict_knn(bank, train.labels, queries, len(train.classes))
    linear = torch.from_numpy(probe.predict(queries.numpy()))
    return {
        "fine_grained_linear": class_mean(linear, test.labels),
        "fine_grained_knn": class_mean(knn, test.labels),
        # The same for a constant class and for random ones.
        "fine_grained_chance": 1 / len(test.labels.unique()),
    }


TASK = Task(
    "fine_grained",
    (
        MetricSpec("fine_grained_linear", "fine-grained: linear probe (class mean)", percent=True),
        MetricSpec("fine_grained_knn", "fine-grained: kNN (class mean)", percent=True),
        percent_control("fine_grained_chance", "fine-grained: chance"),
    ),
    run,
    load_fine,
    quality=SEMANTIC,
)
