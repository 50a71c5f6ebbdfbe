"""Segmentation: which class is seen in each pixel, from frozen dense features?

A linear probe (BatchNorm, 1x1 convolution, logits enlarged); mIoU over the whole set.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sp_bench.data.dense_dataset import VOID, DenseDataset
from sp_bench.data.segmentation_masks import load_masks
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks import Task, TaskContext
from sp_bench.tasks.dense_features import Maps, dense_maps, thinned, values_of
from sp_bench.tasks.dense_probe import fit_dense, predict_dense

_FIT_SIDE = 96  # pixels: the probe has no finer features to gain from more


def confusion(truth: Tensor, found: Tensor, classes: int) -> Tensor:
    """How often each class was taken for each; void is left out.

    Args:
        truth: any shape, in ``[0, classes)`` or ``VOID``.
        found: the same shape, in ``[0, classes)``.
        classes: how many.

    Returns:
        (classes, classes), int64, a row for each class in truth.

    >>> confusion(torch.tensor([0, 1, 1, 255]), torch.tensor([0, 0, 1, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    counts = truth != VOID
    pairs = truth[counts].long() * classes + found[counts].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def mean_iou(table: Tensor) -> float:
    """Mean over classes of intersection by union; a class that is nowhere does not count.

    Args:
        table: as `confusion` gives it, of the whole set.

    >>> mean_iou(torch.tensor([[1, 0], [1, 1]]))
    0.5
    """
    both = table.diag().double()
    either = table.sum(0) + table.sum(1) - table.diag()
    return float((both[either > 0] / either[either > 0]).mean())


def run(subject: TaskContext) -> dict[str, float]:
    """mIoU and accuracy of this backbone, of a random one, and of the most frequent class."""
    train, test = subject.splits.train, subject.splits.test
    if not isinstance(train, DenseDataset) or not isinstance(test, DenseDataset):
        raise UnmeasurableError("data: segmentation takes images with masks")
    table = _table(subject.backbone, train, test)
    random = _table(subject.untrained, train, test)
    constant = torch.zeros_like(table)
    constant[:, int(table.sum(1).argmax())] = table.sum(1)
    return {
        "segmentation_miou": mean_iou(table),
        "segmentation_accuracy": float(table.diag().sum() / table.sum()),
        "segmentation_miou_random": mean_iou(random),
        "segmentation_miou_constant": mean_iou(constant),
        "segmentation_accuracy_constant": float(constant.diag().sum() / table.sum()),
    }


def _table(backbone: FrozenBackbone, train: DenseDataset, test: DenseDataset) -> Tensor:
    classes = len(train.names)
    fit = dense_maps(backbone, train)
    probe = fit_dense(fit.features, thinned(fit, _FIT_SIDE).long(), classes, _loss)
    return _scored(probe, dense_maps(backbone, test), classes)


def _scored(probe: torch.nn.Module, maps: Maps, classes: int) -> Tensor:
    table = torch.zeros(classes, classes, dtype=torch.int64)
    for index, features in enumerate(maps.features):
        truth = torch.from_numpy(values_of(maps, index))
        found = predict_dense(probe, features, tuple(truth.shape)).argmax(dim=0)
        table += confusion(truth, found, classes)
    if not table.sum():
        raise UnmeasurableError("data: every pixel of the test masks is void")
    return table


def _loss(told: Tensor, truth: Tensor) -> Tensor:
    # The sum over pixels by their number, which may be none in a batch.
    loss = F.cross_entropy(told, truth, ignore_index=VOID, reduction="sum")
    return loss / (truth != VOID).sum().clamp_min(1)


TASK = Task(
    "segmentation",
    (
        MetricSpec("segmentation_miou", "segmentation: mIoU", percent=True),
        MetricSpec("segmentation_accuracy", "segmentation: pixels", percent=True, headline=False),
        MetricSpec(
            "segmentation_miou_random",
            "segmentation: mIoU, random backbone",
            percent=True,
            headline=False,
        ),
        MetricSpec(
            "segmentation_miou_constant",
            "segmentation: mIoU, most frequent class everywhere",
            percent=True,
            headline=False,
        ),
        MetricSpec(
            "segmentation_accuracy_constant",
            "segmentation: pixels, most frequent class everywhere",
            percent=True,
            headline=False,
        ),
    ),
    run,
    load_masks,
)
