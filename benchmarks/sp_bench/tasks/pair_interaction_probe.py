"""MLPs on the frozen features of two crops: of both, of one, and of each by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MLP

from sp_bench.tasks import EVALUATION_SEED
from sp_plugin.isolation import private_rng
from sp_plugin.objective.pairs import sample_pairs

# On scenes-96 with a ResNet of width 256, early stopping on a tenth held out took the last epoch.
_EPOCHS, _BATCHES = 8, 30
_WIDTH, _RATE, _DECAY = 256, 2e-3, 0.1

Rule = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Crops:
    """Features of k crops of each of n images, and the truth of all their P pairs.

    Attributes:
        features: (k, n, D). The crops are in no order: what crop a tells of a pair, b tells too.
        targets: (Pn, 3), dx, dy and scale, the first n of the first pair.
    """

    features: Tensor
    targets: Tensor


def together(fit: Crops, score: Crops) -> Tensor:
    """What an MLP that sees both crops predicts for the pairs of ``score``, (Pm, 3)."""
    return _predict(fit, score, _joined)


def one_alone(fit: Crops, score: Crops) -> Tensor:
    """What an MLP predicts that sees the first crop of each pair alone."""
    return _predict(fit, score, _first)


def apart(fit: Crops, score: Crops) -> Tensor:
    """What an MLP predicts that is asked about each crop alone: f(b) - f(a).

    All that where the crops lie can tell, and nothing of how they fit each other.
    """
    return _predict(fit, score, _each)


def _joined(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    told: Tensor = mlp(torch.cat([a, b], dim=1))
    return told


def _first(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    return _joined(mlp, a, torch.zeros_like(b))


def _each(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    return _first(mlp, b, a) - _first(mlp, a, b)


def _predict(fit: Crops, score: Crops, rule: Rule) -> Tensor:
    spread, centre = torch.std_mean(fit.features, dim=(0, 1))
    known, asked = ((each.features - centre) / spread.clamp_min(1e-6) for each in (fit, score))
    scale = fit.targets.std(dim=0).clamp_min(1e-6)
    _, n, width = known.shape
    truth = (fit.targets / scale).unflatten(0, (-1, n))
    pairs = sample_pairs(len(known))

    def tell(features: Tensor) -> Tensor:
        return rule(mlp, *features[pairs].flatten(1, 2))

    def loss(rows: Tensor) -> Tensor:
        return F.mse_loss(tell(known[:, rows]), truth[:, rows].flatten(0, 1))

    with private_rng(EVALUATION_SEED), torch.enable_grad():
        mlp = MLP(2 * width, [_WIDTH, _WIDTH, 3], activation_layer=nn.GELU)
        _train(mlp, loss, n)
    with torch.no_grad():
        return tell(asked) * scale


def _train(mlp: nn.Module, loss_of: Callable[[Tensor], Tensor], n: int) -> None:
    """Fit on n images, some in each step; ``loss_of`` takes which."""
    size = math.ceil(n / _BATCHES)
    optimizer = torch.optim.AdamW(mlp.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = _EPOCHS * math.ceil(n / size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(n).split(size):
            optimizer.zero_grad()
            loss_of(rows).backward()
            optimizer.step()
            schedule.step()
