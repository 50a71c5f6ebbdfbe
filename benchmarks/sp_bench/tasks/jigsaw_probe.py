"""Solution of jigsaws: scores of a linear probe, and the assignment with the best sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks.jigsaw_patches import extract_patch_features
from sp_bench.tasks.linear import fit_probe
from sp_bench.tasks.task import subsample

_FIT_IMAGES, _SCORE_IMAGES = 1500, 1000


@dataclass(frozen=True)
class JigsawSolution:
    """Solved jigsaws of a subset of the test images.

    Attributes:
        indices: (m,) positions of the test images.
        positions: (m, n * n), assigned position of each patch, by its true position.
    """

    indices: Tensor
    positions: Tensor

    @property
    def laid(self) -> Tensor:
        """(m, n * n), patch at each position."""
        return self.positions.argsort(dim=1)

    @property
    def _correct(self) -> Tensor:
        return self.positions == torch.arange(self.positions.shape[1])

    @property
    def piece(self) -> float:
        """Fraction of correct patches."""
        return float(self._correct.double().mean())

    @property
    def perfect(self) -> float:
        """Fraction of wholly correct images."""
        return float(self._correct.all(1).double().mean())


def decode(scores: np.ndarray) -> Tensor:
    """Assignment of each patch to its own position with the greatest sum of scores.

    By the Hungarian method (Kuhn 1955): patches that score best at the same position are resolved
    by the scores of all.

    Args:
        scores: (m, N, N), log-probability of patch i at position j.

    Returns:
        (m, N), position of each patch.

    >>> decode(np.log([[[0.9, 0.1], [0.6, 0.4]]])).tolist()
    [[0, 1]]
    """
    positions = [linear_sum_assignment(image, maximize=True)[1] for image in scores]
    return torch.from_numpy(np.stack(positions)).long()


def log_scores(probabilities: np.ndarray) -> np.ndarray:
    """Logarithm of probabilities, finite: one of 0 would make every assignment impossible.

    >>> bool(np.isfinite(log_scores(np.zeros(2, np.float32))).all())
    True
    """
    return np.asarray(np.log(np.maximum(probabilities, np.finfo(probabilities.dtype).tiny)))


def solve_jigsaws(backbone: FrozenBackbone, splits: Splits, n: int) -> JigsawSolution:
    """Fit the probe on patches of training images and solve the jigsaws of test images.

    Cached by backbone and test images, since two tasks use the solution.

    Args:
        backbone: backbone of the features.
        splits: images; at most 1,500 training and 1,000 test images are used.
        n: cells per row and column.
    """
    return backbone.cached(splits.test, f"jigsaw {n}", lambda: _solve(backbone, splits, n))


def _solve(backbone: FrozenBackbone, splits: Splits, n: int) -> JigsawSolution:
    fit_indices = subsample(len(splits.train), _FIT_IMAGES)
    score_indices = subsample(len(splits.test), _SCORE_IMAGES)
    fit = extract_patch_features(backbone, splits.train, fit_indices, n, part=0)
    score = extract_patch_features(backbone, splits.test, score_indices, n, part=1)
    true_positions = torch.arange(n * n).repeat(len(fit_indices)).numpy()
    probe = fit_probe(fit.flatten(0, 1).numpy(), true_positions)
    probabilities = probe.predict_proba(score.flatten(0, 1).numpy())
    scores = log_scores(probabilities).reshape(len(score_indices), n * n, n * n)
    return JigsawSolution(score_indices, decode(scores))
