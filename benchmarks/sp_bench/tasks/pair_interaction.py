"""Pair interaction: relative position and scale from two crops jointly, beyond each one alone.

The pair task's probe is linear in [a; b]: it adds what crop a predicts to what crop b predicts. The
interaction of the two, such as a line that continues or light from one side, is in no such sum,
but SP trains for it. Here a small MLP gets both crops, of many more pairs, with equal sharpness.
Controls: one crop alone, both separately (a function of one minus the same function of the other),
a random backbone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MLP

from sp_bench.data.load import load_unlabelled
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.results import MetricSpec
from sp_bench.tasks.pair_probe import COMPONENTS, by_component, r2_metric
from sp_bench.tasks.pair_sampling import CropFeatures, crop_features
from sp_bench.tasks.task import EVALUATION_SEED, SPATIAL, Task, TaskContext
from sp_plugin.isolation import private_rng
from sp_plugin.objective.loss import r2
from sp_plugin.objective.pairs import sample_pairs

# Four crops of an image are six pairs for the cost of two: encoding is most of it.
_NUM_CROPS = 4
_MAX_GROUPS = 4000, 1500  # to fit on and to score on

# On scenes-96 with a ResNet of width 256, early stopping on a held-out tenth chose the last epoch.
_EPOCHS, _BATCHES = 8, 30
_HIDDEN_DIM, _LEARNING_RATE, _WEIGHT_DECAY = 256, 2e-3, 0.1

_CONTROLS = {
    "r2": "both views",
    "one": "one view alone",
    "apart": "both views separately",
    "random": "random backbone",
}
_SHOWN = ("r2", "random")  # the gains have the others

Combination = Callable[[nn.Module, Tensor, Tensor], Tensor]  # of an MLP and crops a and b


def _metrics() -> tuple[MetricSpec, ...]:
    gains = {
        "gain": "mean, gain over one view",
        "beyond": "mean, beyond separate views",
        **{f"{name}_gain": f"{name}, gain over one view" for name in COMPONENTS},
    }
    headlines = [
        r2_metric(f"pair_interaction_{key}", f"pair interaction: {label}", headline=True)
        for key, label in gains.items()
    ]
    controls = [
        r2_metric(
            f"pair_interaction_{name}_{key}",
            f"pair interaction: {name}, {label}",
            shown=key in _SHOWN,
        )
        for key, label in _CONTROLS.items()
        for name in COMPONENTS
    ]
    return *headlines, *controls


def run(context: TaskContext) -> dict[str, float]:
    """Fit MLPs on crops of the training images, and score them on crops of the test images."""
    fit, score = _equally_sharp(context, context.backbone)
    scores = {
        "r2": r2(predict(fit, score, joint), score.targets),
        "one": r2(predict(fit, score, first), score.targets),
        "apart": r2(predict(fit, score, difference), score.targets),
        "random": context.untrained.cached(
            context.splits.test, "pair_interaction", lambda: _random_scores(context)
        ),
    }
    scores["gain"] = scores["r2"] - scores["one"]
    metrics = by_component(scores, "pair_interaction")
    metrics["pair_interaction_gain"] = float(scores["gain"].mean())
    metrics["pair_interaction_beyond"] = float((scores["r2"] - scores["apart"]).mean())
    return metrics


def _random_scores(context: TaskContext) -> Tensor:
    fit, score = _equally_sharp(context, context.untrained)
    return r2(predict(fit, score, joint), score.targets)


def _equally_sharp(
    context: TaskContext, backbone: FrozenBackbone
) -> tuple[CropFeatures, CropFeatures]:
    return crop_features(backbone, context.splits, _MAX_GROUPS, _NUM_CROPS, equal_sharpness=True)


def joint(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Prediction from both crops."""
    prediction: Tensor = mlp(torch.cat([a, b], dim=1))
    return prediction


def first(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Prediction from the first crop alone."""
    return joint(mlp, a, torch.zeros_like(b))


def difference(mlp: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Prediction f(b) - f(a) with one function f of each crop separately.

    It contains all that the crops' own positions predict, and nothing of their interaction.
    """
    return first(mlp, b, a) - first(mlp, a, b)


def predict(fit: CropFeatures, score: CropFeatures, combination: Combination) -> Tensor:
    """Predictions of an MLP for all pairs of ``score``.

    The order of the crops is random, so the two crops of a pair are interchangeable.

    Args:
        fit: crops to fit on.
        score: crops to predict from.
        combination: function from the MLP and both crops (N, D) to the prediction (N, 3).

    Returns:
        (Pm, 3), in the order of ``score.targets``.
    """
    std, mean = torch.std_mean(fit.features, dim=(0, 1))
    fit_features, score_features = (
        (crops.features - mean) / std.clamp_min(1e-6) for crops in (fit, score)
    )
    target_std = fit.targets.std(dim=0).clamp_min(1e-6)
    num_crops, n, feature_dim = fit_features.shape
    targets = (fit.targets / target_std).unflatten(0, (-1, n))
    pairs = sample_pairs(num_crops)

    def combine(features: Tensor) -> Tensor:
        return combination(mlp, *features[pairs].flatten(1, 2))

    def loss(rows: Tensor) -> Tensor:
        return F.mse_loss(combine(fit_features[:, rows]), targets[:, rows].flatten(0, 1))

    with private_rng(EVALUATION_SEED), torch.enable_grad():
        mlp = MLP(2 * feature_dim, [_HIDDEN_DIM, _HIDDEN_DIM, 3], activation_layer=nn.GELU)
        _train(mlp, loss, n)
    with torch.no_grad():
        return combine(score_features) * target_std


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


TASK = Task("pair_interaction", _metrics(), run, load_unlabelled, quality=SPATIAL)
