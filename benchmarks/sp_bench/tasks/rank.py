"""Rank: how many dimensions the features of images use, without labels.

RankMe (Garrido et al., ICML 2023, arXiv 2210.02885), of the backbone's features; the effective
dimension, or participation ratio, of their covariance; and the spread of their directions, as in
SimSiam (arXiv 2011.10566, section 4.1). A collapsed backbone has 1, 0 and 0. All are bounded by the
width, and RankMe grows with the number of images: they compare backbones of one width on the
same images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sp_bench.data.dataset import ImageDataset
from sp_bench.data.load import load_unlabelled
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.results import MetricSpec
from sp_bench.tasks.task import Task, TaskContext, subsample
from sp_plugin.features.collapse import feature_std, rankme

_MAX_IMAGES = 25_600  # of the paper
_ROUNDING = 1e-6  # relative difference of equal features that were computed in different batches


def effective_dimension(features: Tensor) -> float:
    """Participation ratio of the covariance: (sum of eigenvalues)^2 / sum of their squares.

    Args:
        features: (N, D), finite.

    Returns:
        From 1 (all variance in one direction) to min(N - 1, D); 0 where all rows are equal.

    >>> round(effective_dimension(torch.cat([torch.eye(3), -torch.eye(3)])), 3)
    3.0
    """
    features = features.double()
    centered = features - features.mean(dim=0)
    if centered.norm() <= _ROUNDING * features.norm():
        return 0.0
    variances = torch.linalg.svdvals(centered).square()
    return float(variances.sum().square() / variances.square().sum())


def run(context: TaskContext) -> dict[str, float]:
    """Rank of the training images' features, of the backbone and of a random one."""
    train = context.splits.train
    values = _measure(context.backbone, train)
    random = _measure(context.untrained, train)
    return values | {f"{key}_random": value for key, value in random.items()}


def _measure(backbone: FrozenBackbone, images: ImageDataset) -> dict[str, float]:
    features = backbone.features(images)[subsample(len(images), _MAX_IMAGES)]
    return {
        "rank_rankme": float(rankme(features)),
        "rank_effective_dimension": effective_dimension(features),
        "rank_feature_std": float(feature_std(features)),
    }


_LABELS = {
    "rank_rankme": "rank: RankMe",
    "rank_effective_dimension": "rank: effective dimension",
    "rank_feature_std": "rank: feature std",
}

TASK = Task(
    "rank",
    tuple(
        MetricSpec(key + suffix, label + end, headline=key + suffix == "rank_rankme")
        for suffix, end in (("", ""), ("_random", ", random backbone"))
        for key, label in _LABELS.items()
    ),
    run,
    load_unlabelled,
)
