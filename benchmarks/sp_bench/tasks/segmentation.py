"""Segmentation: class of each pixel, from frozen dense features.

A linear probe (BatchNorm, 1x1 convolution, upsampled logits); mIoU over the whole test set.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sp_bench.data.dense_dataset import VOID, DenseDataset
from sp_bench.data.segmentation_masks import load_masks
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks.dense_features import dense_features
from sp_bench.tasks.dense_probe import fit_dense, predict_dense
from sp_bench.tasks.task import SPATIAL, Task, TaskContext, percent_control

_FIT_SIDE = 96  # pixels: the feature maps have no more detail


def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Number of pixels by target and predicted class, without void pixels.

    Args:
        prediction: classes in ``[0, num_classes)``, any shape.
        target: classes in ``[0, num_classes)`` or ``VOID``, of the same shape.
        num_classes: number of classes.

    Returns:
        (num_classes, num_classes), int64, one row per target class.

    >>> confusion_matrix(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 255]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    counts = target != VOID
    pairs = target[counts].long() * num_classes + prediction[counts].long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def mean_iou(confusion: Tensor) -> float:
    """Mean over classes of intersection over union; a class that never occurs does not count.

    Args:
        confusion: `confusion_matrix` of the whole set.

    >>> mean_iou(torch.tensor([[1, 0], [1, 1]]))
    0.5
    """
    intersection = confusion.diag().double()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return float((intersection[union > 0] / union[union > 0]).mean())


def run(context: TaskContext) -> dict[str, float]:
    """mIoU and accuracy of the backbone, of a random one, and of the most frequent class."""
    train, test = context.splits.train, context.splits.test
    if not isinstance(train, DenseDataset) or not isinstance(test, DenseDataset):
        raise UnmeasurableError("data: segmentation takes images with masks")
    confusion = _probe_confusion(context.backbone, train, test)
    random = _probe_confusion(context.untrained, train, test)
    constant = torch.zeros_like(confusion)
    constant[:, int(confusion.sum(1).argmax())] = confusion.sum(1)
    return {
        "segmentation_miou": mean_iou(confusion),
        "segmentation_accuracy": float(confusion.diag().sum() / confusion.sum()),
        "segmentation_miou_random": mean_iou(random),
        "segmentation_miou_constant": mean_iou(constant),
        "segmentation_accuracy_constant": float(constant.diag().sum() / confusion.sum()),
    }


def _probe_confusion(backbone: FrozenBackbone, train: DenseDataset, test: DenseDataset) -> Tensor:
    """Confusion matrix on ``test`` of a probe fitted on ``train``."""
    num_classes = len(train.names)
    fit = dense_features(backbone, train)
    probe = fit_dense(fit.maps, fit.thinned_values(_FIT_SIDE).long(), num_classes, _loss)
    score = dense_features(backbone, test)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    for row, features in enumerate(score.maps):
        target = torch.from_numpy(score.values(row))
        prediction = predict_dense(probe, features, tuple(target.shape)).argmax(dim=0)
        confusion += confusion_matrix(prediction, target, num_classes)
    if not confusion.sum():
        raise UnmeasurableError("data: every pixel of the test masks is void")
    return confusion


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    # The sum over pixels by their number, which can be 0 in a batch.
    loss = F.cross_entropy(logits, target, ignore_index=VOID, reduction="sum")
    return loss / (target != VOID).sum().clamp_min(1)


TASK = Task(
    "segmentation",
    (
        MetricSpec("segmentation_miou", "segmentation: mIoU", percent=True),
        percent_control("segmentation_accuracy", "segmentation: pixels"),
        percent_control("segmentation_miou_random", "segmentation: mIoU, random backbone"),
        percent_control(
            "segmentation_miou_constant", "segmentation: mIoU, most frequent class everywhere"
        ),
        percent_control(
            "segmentation_accuracy_constant", "segmentation: pixels, most frequent class everywhere"
        ),
    ),
    run,
    load_masks,
    quality=SPATIAL,
)
