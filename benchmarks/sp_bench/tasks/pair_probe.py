"""What a linear probe reads out of the features of pairs, and out of less than that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sp_bench.tasks import EVALUATION_SEED
from sp_plugin.objective.loss import r2

# From none to so much that nothing is left of the features: a useless one gets R2 0, not less.
_ALPHAS = np.logspace(-1, 7, 17)


Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """Features and truth of n pairs.

    Attributes:
        views: (2, n, D), features of crops a and b.
        targets: (n, 3), dx, dy and scale.
        image: (n,), which image each pair is of.
    """

    views: Tensor
    targets: Tensor
    image: Tensor


def predict(fit: Tensor, targets: Tensor, score: Tensor) -> Tensor:
    """Ridge on standardised features; its strength, for each target, by leave-one-out.

    Args:
        fit: (n, D) features.
        targets: (n, K) of them.
        score: (m, D) other features.

    Returns:
        (m, K) predictions.

    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> predict(x[:100], x[:100, :2], x[100:]).sub(x[100:, :2]).abs().max().item() < 0.01
    True
    """
    # By the singular values: at these shapes faster than by what "auto" takes.
    ridge = RidgeCV(_ALPHAS, alpha_per_target=True, gcv_mode="svd")
    probe = make_pipeline(StandardScaler(), ridge)
    probe.fit(fit.double().numpy(), targets.double().numpy())
    return torch.from_numpy(probe.predict(score.double().numpy()))


def predict_mlp(fit: Tensor, targets: Tensor, score: Tensor) -> Tensor:
    """One hidden layer, stopped early: what a rule that is not linear tells.

    Args:
        fit: (n, D) features.
        targets: (n, K) of them.
        score: (m, D) other features.

    Returns:
        (m, K) predictions.
    """
    # Wider ones fit few pairs by heart; alpha and early stopping are against that.
    layer = MLPRegressor(
        hidden_layer_sizes=(128,),
        alpha=1.0,
        early_stopping=len(fit) >= 50,  # a tenth is held out for it
        max_iter=100,
        random_state=EVALUATION_SEED,
    )
    scaler = StandardScaler().fit(targets.double().numpy())
    probe = make_pipeline(StandardScaler(), layer)
    probe.fit(fit.double().numpy(), scaler.transform(targets.double().numpy()))
    told = probe.predict(score.double().numpy())
    return torch.from_numpy(scaler.inverse_transform(told))


def mlp_of_both(fit: Pairs, score: Pairs) -> Tensor:
    """R2, (3,), of an MLP that sees both views."""
    told = predict_mlp(_joined(fit), fit.targets, _joined(score))
    return r2(told, score.targets.double())


def mlp_of_one(fit: Pairs, score: Pairs) -> Tensor:
    """R2, (3,), of the better of two MLPs that see one view each, component by component."""
    told = from_one(fit, score, predict_mlp)
    return torch.maximum(*(r2(each, score.targets.double()) for each in told))


def from_both(fit: Pairs, score: Pairs) -> Tensor:
    """What a probe that sees both views predicts for ``score``, (m, 3)."""
    return predict(_joined(fit), fit.targets, _joined(score))


def r2_of_both(fit: Pairs, score: Pairs) -> Tensor:
    """R2 of dx, dy and scale, (3,), of a probe that sees both views."""
    return r2(from_both(fit, score), score.targets.double())


def r2_of_one(fit: Pairs, score: Pairs) -> Tensor:
    """R2, (3,), of the better of two probes that see one view each, component by component.

    A crop must fit its image, so where one lies already tells part of the way to the other.
    To take the better one on the scored pairs favours the control.
    """
    return torch.maximum(*(r2(told, score.targets.double()) for told in from_one(fit, score)))


def from_one(fit: Pairs, score: Pairs, rule: Rule = predict) -> list[Tensor]:
    """What two probes that see one view each predict for ``score``, (m, 3) of either."""
    return [
        rule(a_or_b, fit.targets, other)
        for a_or_b, other in zip(fit.views, score.views, strict=True)
    ]


def shuffled(pairs: Pairs) -> Pairs:
    """The same with the second view taken from a pair of another image.

    As many numbers as both views have, but no more truth than one: R2 should be that of one.

    >>> views, targets = torch.arange(4.0).expand(2, 4).unsqueeze(2), torch.zeros(4, 3)
    >>> pairs = shuffled(Pairs(views, targets, torch.tensor([0, 1, 0, 1])))
    >>> pairs.views[1, :, 0].tolist()
    [1.0, 0.0, 3.0, 2.0]
    """
    partner = strangers(pairs.image)
    return replace(pairs, views=torch.stack([pairs.views[0], pairs.views[1][partner]]))


def strangers(image: Tensor) -> Tensor:
    """For each pair another one, of another image; each is taken once.

    Args:
        image: (n,) which image each pair is of; none makes up more than half of them.

    Returns:
        (n,) indices.
    """
    order = image.argsort(stable=True)
    # In this order the pairs of an image stand together: this far on, none is of the same.
    partner = torch.empty_like(order)
    partner[order] = order.roll(-int(image.bincount().max()))
    return partner


def _joined(pairs: Pairs) -> Tensor:
    return torch.cat([pairs.views[0], pairs.views[1]], dim=1)
