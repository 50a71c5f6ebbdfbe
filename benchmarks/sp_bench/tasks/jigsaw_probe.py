"""Which place each patch of an image is given: a linear probe's scores, each place given once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks import subsample
from sp_bench.tasks.jigsaw_patches import encode_patches
from sp_bench.tasks.linear import fit_probe

_FIT_PICTURES, _SCORE_PICTURES = 1500, 1000


@dataclass(frozen=True)
class Solved:
    """The puzzles of some test images, as the probe puts them together.

    Attributes:
        few: (m,) which test images.
        places: (m, n * n), the place that each patch is given, by its true place.
    """

    few: Tensor
    places: Tensor

    @property
    def laid(self) -> Tensor:
        """(m, n * n), for each place the patch that was put there."""
        return self.places.argsort(dim=1)

    @property
    def piece(self) -> float:
        """Share of patches put right."""
        return float((self.places == torch.arange(self.places.shape[1])).double().mean())

    @property
    def perfect(self) -> float:
        """Share of images wholly right."""
        return float((self.places == torch.arange(self.places.shape[1])).all(1).double().mean())


def decode(scores: np.ndarray) -> Tensor:
    """Each patch a place of its own, so that the sum of scores is greatest (Hungarian method).

    Kuhn 1955; where one patch alone would be put twice in a place, the others have a say.

    Args:
        scores: (m, N, N), log-probability of patch i in place j.

    Returns:
        (m, N), the place of each patch.

    >>> decode(np.log([[[0.9, 0.1], [0.6, 0.4]]])).tolist()
    [[0, 1]]
    """
    places = [linear_sum_assignment(each, maximize=True)[1] for each in scores]
    return torch.from_numpy(np.stack(places)).long()


def solve(backbone: FrozenBackbone, splits: Splits, n: int) -> Solved:
    """Fit the probe on patches of training images, put those of test images together.

    Made once for a backbone and its test images: two tasks ask for it.

    Args:
        backbone: to ask.
        splits: at most 1,500 of the training and 1,000 of the test images are taken.
        n: cells across and down.
    """
    return backbone.cached(splits.test, f"jigsaw {n}", lambda: _solve(backbone, splits, n))


def _solve(backbone: FrozenBackbone, splits: Splits, n: int) -> Solved:
    fit_on, score_on = (
        subsample(len(splits.train), _FIT_PICTURES),
        subsample(len(splits.test), _SCORE_PICTURES),
    )
    fit = encode_patches(backbone, splits.train, fit_on, n, part=0)
    score = encode_patches(backbone, splits.test, score_on, n, part=1)
    true = torch.arange(n * n).repeat(len(fit_on)).numpy()
    probe = fit_probe(fit.flatten(0, 1).numpy(), true)
    shares = probe.predict_proba(score.flatten(0, 1).numpy())
    # An impossible place would make every solution impossible.
    scores = np.log(np.maximum(shares, 1e-300)).reshape(len(score_on), n * n, n * n)
    return Solved(score_on, decode(scores))
