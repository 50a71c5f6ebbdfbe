"""Depth: how far away is what is seen in each pixel, from frozen dense features?

A linear probe of log depth (BatchNorm, 1x1 convolution, its output enlarged). Errors are over all
pixels of the set whose depth is known (Eigen et al., NeurIPS 2014, arXiv 1406.2283).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sp_bench.data.dense_dataset import DenseDataset
from sp_bench.data.depth import load_depths
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks import Task, TaskContext
from sp_bench.tasks.dense_features import Maps, dense_maps, thinned, values_of
from sp_bench.tasks.dense_probe import fit_dense, predict_dense

_FIT_SIDE = 96  # pixels


class Errors(NamedTuple):
    """Of predicted depths.

    Attributes:
        rmse: root of the mean squared error, in metres.
        abs_rel: mean of the error by the truth.
        delta: share of pixels whose ratio to the truth, or the truth's to them, is below 1.25.
    """

    rmse: float
    abs_rel: float
    delta: float


def errors(truth: Tensor, found: Tensor) -> Errors:
    """Errors over pixels whose depth is known.

    Args:
        truth: metres, any shape; 0 where not known.
        found: metres, the same shape.

    >>> errors(torch.tensor([2.0, 4.0, 0.0]), torch.tensor([2.0, 8.0, 9.0])).abs_rel
    0.5
    """
    return _means(_sums(truth, found))


def run(subject: TaskContext) -> dict[str, float]:
    """Errors of this backbone, of a random one, and of the training images' median depth."""
    train, test = subject.splits.train, subject.splits.test
    if not isinstance(train, DenseDataset) or not isinstance(test, DenseDataset):
        raise UnmeasurableError("data: depth takes images with depth")
    told, constant = _errors(subject.backbone, train, test)
    random, _ = _errors(subject.untrained, train, test)
    named = {"": told, "_random": random, "_constant": constant}
    return {
        f"depth_{key}{end}": value
        for end, each in named.items()
        for key, value in each._asdict().items()
    }


def _errors(
    backbone: FrozenBackbone, train: DenseDataset, test: DenseDataset
) -> tuple[Errors, Errors]:
    fit = dense_maps(backbone, train)
    depths = thinned(fit, _FIT_SIDE)
    known = depths[depths > 0]
    if not len(known):
        raise UnmeasurableError("data: no depth is known in the training images")
    middle = known.median().log()
    # From the middle on, for a probe that begins at 0.
    logs = torch.where(depths > 0, depths.clamp_min(1e-6).log() - middle, torch.nan)
    probe = fit_dense(fit.features, logs, 1, _loss)
    return _scored(probe, dense_maps(backbone, test), middle)


def _scored(probe: torch.nn.Module, maps: Maps, middle: Tensor) -> tuple[Errors, Errors]:
    total, constant = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for index, features in enumerate(maps.features):
        truth = torch.from_numpy(values_of(maps, index))
        found = (predict_dense(probe, features, tuple(truth.shape))[0] + middle).exp()
        total += _sums(truth, found)
        constant += _sums(truth, middle.exp().expand_as(truth))
    if not total[3]:
        raise UnmeasurableError("data: no depth is known in the test images")
    return _means(total), _means(constant)


def _sums(truth: Tensor, found: Tensor) -> Tensor:
    """Sums of squared errors, of relative errors and of hits, and the number of pixels."""
    known = truth > 0
    truth, found = truth[known].double(), found[known].double()
    error, ratio = found - truth, found / truth
    hits = torch.maximum(ratio, 1 / ratio) < 1.25
    count = torch.tensor(float(len(truth)), dtype=torch.float64)
    return torch.stack([error.square().sum(), (error.abs() / truth).sum(), hits.sum(), count])


def _means(sums: Tensor) -> Errors:
    squared, relative, hits, count = sums.tolist()
    return Errors((squared / count) ** 0.5, relative / count, hits / count)


def _loss(told: Tensor, logs: Tensor) -> Tensor:
    known = logs.isfinite()
    # Before the square: behind it the gradient of what is not known would be NaN.
    error = (told[:, 0] - logs).where(known, 0.0)
    return error.square().sum() / known.sum().clamp_min(1)


def _figures() -> tuple[MetricSpec, ...]:
    words = {"": "", "_random": ", random backbone", "_constant": ", median depth everywhere"}
    figures = []
    for end, told in words.items():
        own = {"headline": not end, "higher_is_better": False}
        figures += [
            MetricSpec(f"depth_rmse{end}", f"depth: RMSE [m]{told}", **own),
            MetricSpec(f"depth_abs_rel{end}", f"depth: AbsRel{told}", **own),
            MetricSpec(f"depth_delta{end}", f"depth: delta < 1.25{told}", True, not end),
        ]
    return tuple(figures)


TASK = Task("depth", _figures(), run, load_depths)
