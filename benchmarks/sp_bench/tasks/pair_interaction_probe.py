"""MLPs on the frozen features of two crops: of both jointly, of one, and of each separately."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MLP

from sp_bench.tasks.task import EVALUATION_SEED
from sp_plugin.isolation import private_rng
from sp_plugin.objective.pairs import sample_pairs

# On scenes-96 with a ResNet of width 256, early stopping on a held-out tenth chose the last epoch.
_EPOCHS, _BATCHES = 8, 30
_HIDDEN_DIM, _LEARNING_RATE, _WEIGHT_DECAY = 256, 2e-3, 0.1

Combination = Callable[[nn.Module, Tensor, Tensor], Tensor]  # of an MLP and crops a and b


@dataclass(frozen=True)
class CropFeatures:
    """Features of k crops of each of n images, and the targets of all their P pairs.

    Attributes:
        features: (k, n, D). The order of the crops is random, so the two crops of a pair are
            interchangeable.
        targets: (Pn, 3), dx, dy and scale, the n rows of the first pair first.
    """

    features: Tensor
    targets: Tensor


def predict_jointly(fit: CropFeatures, score: CropFeatures) -> Tensor:
    """Predictions for the pairs of ``score``, (Pm, 3), of an MLP of both crops."""
    return _fit_and_predict(fit, score, _joint)


def predict_from_first(fit: CropFeatures, score: CropFeatures) -> Tensor:
    """Predictions of an MLP of the first crop of each pair alone."""
    return _fit_and_predict(fit, score, _first)


def predict_separately(fit: CropFeatures, score: CropFeatures) -> Tensor:
    """Predictions f(b) - f(a) of an MLP f of each crop separately.

    These contain all that the crops' own positions predict, and nothing of their interaction.
    """
    return _fit_and_predict(fit, score, _difference)


def _joint(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    prediction: Tensor = mlp(torch.cat([a, b], dim=1))
    return prediction


def _first(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    return _joint(mlp, a, torch.zeros_like(b))


def _difference(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    return _first(mlp, b, a) - _first(mlp, a, b)


def _fit_and_predict(fit: CropFeatures, score: CropFeatures, combination: Combination) -> Tensor:
    std, mean = torch.std_mean(fit.features, dim=(0, 1))
    fit_features, score_features = (
        (crops.features - mean) / std.clamp_min(1e-6) for crops in (fit, score)
    )
    target_std = fit.targets.std(dim=0).clamp_min(1e-6)
    num_crops, n, feature_dim = fit_features.shape
    targets = (fit.targets / target_std).unflatten(0, (-1, n))
    pairs = sample_pairs(num_crops)

    def predict(features: Tensor) -> Tensor:
        return combination(mlp, *features[pairs].flatten(1, 2))

    def loss(rows: Tensor) -> Tensor:
        return F.mse_loss(predict(fit_features[:, rows]), targets[:, rows].flatten(0, 1))

    with private_rng(EVALUATION_SEED), torch.enable_grad():
        mlp = MLP(2 * feature_dim, [_HIDDEN_DIM, _HIDDEN_DIM, 3], activation_layer=nn.GELU)
        _train(mlp, loss, n)
    with torch.no_grad():
        return predict(score_features) * target_std


def _train(mlp: nn.Module, loss: Callable[[Tensor], Tensor], n: int) -> None:
    """Fit on n images; ``loss`` is a function of the indices of a batch."""
    batch_size = math.ceil(n / _BATCHES)
    optimizer = torch.optim.AdamW(mlp.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    steps = _EPOCHS * math.ceil(n / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(n).split(batch_size):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
            schedule.step()
