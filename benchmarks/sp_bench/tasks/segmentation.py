"""Segmentation: class of each pixel, from frozen dense features.

A linear probe (BatchNorm, 1x1 convolution, upsampled logits); mIoU over the whole test set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from sp_bench.data.dense_dataset import VOID, DenseDataset
from sp_bench.data.segmentation_masks import load_masks
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks.dense_features import DenseFeatures, dense_features
from sp_bench.tasks.dense_probe import fit_dense, predict_dense
from sp_bench.tasks.task import SPATIAL, Task, TaskContext, percent_control

_FIT_SIDE = 96  # pixels: the feature maps have no more detail

# From features of training images and the number of classes to a function from feature maps
# (B, D, h, w) to scores of the classes (B, num_classes, h, w).
Fit = Callable[[DenseFeatures, int], Callable[[Tensor], Tensor]]


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


def evaluate_masks(name: str, fit: Fit, context: TaskContext) -> dict[str, float]:
    """mIoU and accuracy of the backbone, of a random one, and of the most frequent class.

    Args:
        name: prefix of the metrics, those of `mask_metrics`.
        fit: function from training images to what predicts the classes.
        context: backbones and images with masks.

    Raises:
        UnmeasurableError: the images have no masks, or every pixel of the test masks is void.
    """
    train, test = context.splits.train, context.splits.test
    if not isinstance(train, DenseDataset) or not isinstance(test, DenseDataset):
        raise UnmeasurableError(f"data: {name} takes images with masks")
    confusion = _confusion(fit, context.backbone, train, test)
    random = context.untrained.cached(
        test, name, lambda: _confusion(fit, context.untrained, train, test)
    )
    constant = torch.zeros_like(confusion)
    constant[:, int(confusion.sum(1).argmax())] = confusion.sum(1)
    return {
        f"{name}_miou": mean_iou(confusion),
        f"{name}_accuracy": float(confusion.diag().sum() / confusion.sum()),
        f"{name}_miou_random": mean_iou(random),
        f"{name}_miou_constant": mean_iou(constant),
        f"{name}_accuracy_constant": float(constant.diag().sum() / confusion.sum()),
    }


def mask_metrics(name: str, label: str) -> tuple[MetricSpec, ...]:
    """Specs of the metrics of `evaluate_masks`: mIoU is the headline, the others are controls."""
    everywhere = "most frequent class everywhere"
    return (
        MetricSpec(f"{name}_miou", f"{label}: mIoU", percent=True),
        percent_control(f"{name}_accuracy", f"{label}: pixels"),
        percent_control(f"{name}_miou_random", f"{label}: mIoU, random backbone"),
        percent_control(f"{name}_miou_constant", f"{label}: mIoU, {everywhere}"),
        percent_control(f"{name}_accuracy_constant", f"{label}: pixels, {everywhere}"),
    )


def _confusion(
    fit: Fit, backbone: FrozenBackbone, train: DenseDataset, test: DenseDataset
) -> Tensor:
    """Confusion matrix on ``test`` of what was fitted on ``train``."""
    num_classes = len(train.names)
    learn, score = dense_features(backbone, train, test)
    predict = fit(learn, num_classes)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    for row, features in enumerate(score.maps):
        target = torch.from_numpy(score.values(row))
        prediction = predict_dense(predict, features, tuple(target.shape)).argmax(dim=0)
        confusion += confusion_matrix(prediction, target, num_classes)
    if not confusion.sum():
        raise UnmeasurableError("data: every pixel of the test masks is void")
    return confusion


def _fit_probe(features: DenseFeatures, num_classes: int) -> Callable[[Tensor], Tensor]:
    target = features.thinned_values(_FIT_SIDE).long()
    return fit_dense(features.maps, target, num_classes, _loss)


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    # The sum over pixels by their number, which can be 0 in a batch.
    loss = F.cross_entropy(logits, target, ignore_index=VOID, reduction="sum")
    return loss / (target != VOID).sum().clamp_min(1)


TASK = Task(
    "segmentation",
    mask_metrics("segmentation", "segmentation"),
    partial(evaluate_masks, "segmentation", _fit_probe),
    load_masks,
    quality=SPATIAL,
)
