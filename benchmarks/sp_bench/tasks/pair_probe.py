"""Probes of the pair task: predictions from the features of both crops, or of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sp_bench.results import MetricSpec
from sp_bench.tasks.pair_sampling import CropFeatures
from sp_bench.tasks.task import EVALUATION_SEED
from sp_plugin.objective.loss import r2

# From none to so strong that nothing is left of the features: useless ones get R2 0, not less.
_ALPHAS = np.logspace(-1, 7, 17)


COMPONENTS = ("dx", "dy", "scale")

Probe = Callable[[Tensor, Tensor, Tensor], Tensor]


def r2_metric(key: str, label: str, *, headline: bool = False, shown: bool = True) -> MetricSpec:
    """Spec of an R2, a control by default."""
    return MetricSpec(key, f"{label} (R2)", headline=headline, shown=shown, chance=0.0)


def by_component(values: Mapping[str, Tensor], prefix: str) -> dict[str, float]:
    """Metrics ``<prefix>_<component>_<key>`` from values (3,) by key.

    >>> by_component({"r2": torch.tensor([0.5, 0.25, 0.0])}, "pair")
    {'pair_dx_r2': 0.5, 'pair_dy_r2': 0.25, 'pair_scale_r2': 0.0}
    """
    return {
        f"{prefix}_{name}_{key}": float(value)
        for key, of_key in values.items()
        for name, value in zip(COMPONENTS, of_key, strict=True)
    }


def predict_ridge(fit: Tensor, targets: Tensor, score: Tensor) -> Tensor:
    """Predictions of a ridge regression on standardised features.

    Its strength is chosen for each target by the leave-one-out error.

    Args:
        fit: (n, D) features to fit on.
        targets: (n, K) targets of these.
        score: (m, D) features to predict from.

    Returns:
        (m, K).

    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> predict_ridge(x[:100], x[:100, :2], x[100:]).sub(x[100:, :2]).abs().max().item() < 0.01
    True
    """
    # By singular values: faster at these shapes than the choice of "auto".
    ridge = RidgeCV(_ALPHAS, alpha_per_target=True, gcv_mode="svd")
    probe = make_pipeline(StandardScaler(), ridge)
    probe.fit(fit.double().numpy(), targets.double().numpy())
    return torch.from_numpy(probe.predict(score.double().numpy()))


def predict_mlp(fit: Tensor, targets: Tensor, score: Tensor) -> Tensor:
    """Predictions of an MLP with one hidden layer and early stopping; arguments as above."""
    # A wider one overfits on few pairs; alpha and early stopping are against that.
    mlp = MLPRegressor(
        hidden_layer_sizes=(128,),
        alpha=1.0,
        early_stopping=len(fit) >= 50,  # a tenth is held out for it
        max_iter=100,
        random_state=EVALUATION_SEED,
    )
    scaler = StandardScaler().fit(targets.double().numpy())
    probe = make_pipeline(StandardScaler(), mlp)
    probe.fit(fit.double().numpy(), scaler.transform(targets.double().numpy()))
    prediction = probe.predict(score.double().numpy())
    return torch.from_numpy(scaler.inverse_transform(prediction))


def predict_from_both(
    fit: CropFeatures, score: CropFeatures, probe: Probe = predict_ridge
) -> Tensor:
    """Predictions for ``score``, (m, 3), from both views."""
    return probe(_joined(fit), fit.targets, _joined(score))


def predict_from_one(
    fit: CropFeatures, score: CropFeatures, probe: Probe = predict_ridge
) -> list[Tensor]:
    """Predictions for ``score``, (m, 3) each, from view a alone and from view b alone."""
    return [
        probe(fit_view, fit.targets, score_view)
        for fit_view, score_view in zip(fit.features, score.features, strict=True)
    ]


def r2_of_both(fit: CropFeatures, score: CropFeatures, probe: Probe = predict_ridge) -> Tensor:
    """R2 of dx, dy and scale, (3,), of a probe of both views."""
    return r2(predict_from_both(fit, score, probe), score.targets.double())


def r2_of_one(fit: CropFeatures, score: CropFeatures, probe: Probe = predict_ridge) -> Tensor:
    """R2, (3,), of the better of two probes of one view each, by component.

    A crop lies inside its image, so its own position already predicts a part of the shift. The
    better one is chosen on the scored pairs, which favours this control.
    """
    predictions = predict_from_one(fit, score, probe)
    return torch.maximum(*(r2(prediction, score.targets.double()) for prediction in predictions))


def shuffle_partners(pairs: CropFeatures) -> CropFeatures:
    """The same pairs with the second view of a pair from another image.

    This has the width of both views but the information of one: R2 should be that of one.
    """
    a, b = pairs.features
    return replace(pairs, features=torch.stack([a, b[other_image_partners(pairs.crops.image)]]))


def other_image_partners(image: Tensor) -> Tensor:
    """A permutation that maps each pair to a pair of another image.

    Args:
        image: (n,) index of the image of each pair; no image has more than half of the pairs.

    Returns:
        (n,) indices.

    >>> other_image_partners(torch.tensor([0, 1, 0, 1])).tolist()
    [1, 0, 3, 2]
    """
    order = image.argsort(stable=True)
    # In this order the pairs of an image are adjacent: no pair this far away is of the same image.
    partner = torch.empty_like(order)
    partner[order] = order.roll(-int(image.bincount().max()))
    return partner


def _joined(pairs: CropFeatures) -> Tensor:
    return torch.cat([*pairs.features], dim=1)
