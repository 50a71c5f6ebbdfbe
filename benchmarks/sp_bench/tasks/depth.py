"""Depth: distance of the surface in each pixel, from frozen dense features.

A linear probe of log depth (BatchNorm, 1x1 convolution, upsampled). Errors are over all pixels of
the test set with known depth (Eigen et al., NeurIPS 2014, arXiv 1406.2283).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sp_bench.data.dense_dataset import DenseDataset
from sp_bench.data.depth import load_depths
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks.dense_features import dense_features
from sp_bench.tasks.dense_probe import fit_dense, predict_dense
from sp_bench.tasks.task import SPATIAL, Task, TaskContext

_FIT_SIDE = 96  # pixels


class DepthErrors(NamedTuple):
    """Errors of predicted depths.

    Attributes:
        rmse: root of the mean squared error, in metres.
        abs_rel: mean of the absolute error divided by the true depth.
        delta: fraction of pixels whose ratio to the truth, or its inverse, is below 1.25.
    """

    rmse: float
    abs_rel: float
    delta: float


def depth_errors(prediction: Tensor, target: Tensor) -> DepthErrors:
    """Errors over pixels with known depth.

    Args:
        prediction: depths in metres, any shape.
        target: depths in metres, of the same shape; 0 where unknown.

    >>> depth_errors(torch.tensor([2.0, 8.0, 9.0]), torch.tensor([2.0, 4.0, 0.0])).abs_rel
    0.5
    """
    return _from_sums(_error_sums(prediction, target))


def run(context: TaskContext) -> dict[str, float]:
    """Errors of the backbone, of a random one, and of the training images' median depth."""
    train, test = context.splits.train, context.splits.test
    if not isinstance(train, DenseDataset) or not isinstance(test, DenseDataset):
        raise UnmeasurableError("data: depth takes images with depth")
    errors, constant = _probe_errors(context.backbone, train, test)
    random, _ = context.untrained.cached(
        test, "depth", lambda: _probe_errors(context.untrained, train, test)
    )
    return {
        f"depth_{name}{suffix}": value
        for suffix, result in (("", errors), ("_random", random), ("_constant", constant))
        for name, value in result._asdict().items()
    }


def _probe_errors(
    backbone: FrozenBackbone, train: DenseDataset, test: DenseDataset
) -> tuple[DepthErrors, DepthErrors]:
    """Errors of a probe fitted on ``train``, and of the median depth of ``train`` everywhere."""
    fit, score = dense_features(backbone, train, test)
    depths = fit.thinned_values(_FIT_SIDE)
    known = depths[depths > 0]
    if not len(known):
        raise UnmeasurableError("data: no depth is known in the training images")
    log_median = known.median().log()
    # Relative to the median, since the probe starts at 0.
    log_depths = torch.where(depths > 0, depths.clamp_min(1e-6).log() - log_median, torch.nan)
    probe = fit_dense(fit.maps, log_depths, 1, _loss)
    sums, constant = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for row, features in enumerate(score.maps):
        target = torch.from_numpy(score.values(row))
        log_prediction = predict_dense(probe, features, tuple(target.shape))[0] + log_median
        sums += _error_sums(log_prediction.exp(), target)
        constant += _error_sums(log_median.exp().expand_as(target), target)
    if not sums[3]:
        raise UnmeasurableError("data: no depth is known in the test images")
    return _from_sums(sums), _from_sums(constant)


def _error_sums(prediction: Tensor, target: Tensor) -> Tensor:
    """Sums of squared errors, of relative errors and of hits; and the number of known pixels."""
    known = target > 0
    target, prediction = target[known].double(), prediction[known].double()
    error, ratio = prediction - target, prediction / target
    hits = torch.maximum(ratio, 1 / ratio) < 1.25
    count = torch.tensor(float(len(target)), dtype=torch.float64)
    return torch.stack([error.square().sum(), (error.abs() / target).sum(), hits.sum(), count])


def _from_sums(sums: Tensor) -> DepthErrors:
    squared, relative, hits, count = sums.tolist()
    return DepthErrors((squared / count) ** 0.5, relative / count, hits / count)


def _loss(prediction: Tensor, log_depths: Tensor) -> Tensor:
    known = log_depths.isfinite()
    # Masked before the square: after it the gradient at unknown pixels would be NaN.
    error = (prediction[:, 0] - log_depths).where(known, 0.0)
    return error.square().sum() / known.sum().clamp_min(1)


def _metrics() -> tuple[MetricSpec, ...]:
    labels = {"": "", "_random": ", random backbone", "_constant": ", median depth everywhere"}
    metrics = []
    for suffix, label in labels.items():
        error = {"headline": not suffix, "higher_is_better": False}
        metrics += [
            MetricSpec(f"depth_rmse{suffix}", f"depth: RMSE [m]{label}", **error),
            MetricSpec(f"depth_abs_rel{suffix}", f"depth: AbsRel{label}", **error),
            MetricSpec(
                f"depth_delta{suffix}",
                f"depth: delta < 1.25{label}",
                percent=True,
                headline=not suffix,
            ),
        ]
    return tuple(metrics)


TASK = Task("depth", _metrics(), run, load_depths, quality=SPATIAL)
