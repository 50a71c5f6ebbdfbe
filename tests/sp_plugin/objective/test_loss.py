"""SPLoss and R2, against torch, scikit-learn and torchmetrics."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score
from torch.nn import functional as F
from torchmetrics.functional.regression import r2_score as r2_of_torchmetrics

from sp_plugin.objective.loss import LOSSES, SPLoss, r2

_seeds = st.integers(0, 2**32 - 1)
_TORCH = {"smooth_l1": F.smooth_l1_loss, "l1": F.l1_loss, "mse": F.mse_loss}


def _prediction_and_target(seed: int, rows: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    prediction, target = 2 * torch.randn(2, rows, 3, generator=torch.Generator().manual_seed(seed))
    return prediction, target


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    # Errors of 0.5, 3 and 2 in x, y and sigma; smooth L1 is e^2 / 2 up to 1, e - 1/2 above.
    [
        ("smooth_l1", ((0.125 + 2.5) / 2 + 1.5) / 2),
        ("l1", ((0.5 + 3.0) / 2 + 2.0) / 2),
        ("mse", ((0.25 + 9.0) / 2 + 4.0) / 2),
    ],
)
def test_loss_by_hand(loss_type, expected):
    prediction = torch.tensor([[0.5, -3.0, 2.0]])
    assert SPLoss(loss_type)(prediction, torch.zeros(1, 3)).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss_type", LOSSES)
@given(seed=_seeds)
def test_loss_matches_torch(loss_type, seed):
    prediction, target = _prediction_and_target(seed)
    position = _TORCH[loss_type](prediction[:, :2], target[:, :2])
    scale = _TORCH[loss_type](prediction[:, 2], target[:, 2])
    torch.testing.assert_close(SPLoss(loss_type)(prediction, target), (position + scale) / 2)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_position_and_scale_weigh_equally(loss_type):
    position_error = SPLoss(loss_type)(torch.tensor([[2.0, -2.0, 0.0]]), torch.zeros(1, 3))
    scale_error = SPLoss(loss_type)(torch.tensor([[0.0, 0.0, 2.0]]), torch.zeros(1, 3))
    assert position_error == scale_error > 0


@pytest.mark.parametrize("loss_type", LOSSES)
@given(seed=_seeds)
def test_loss_is_symmetric_zero_at_target(loss_type, seed):
    prediction, target = _prediction_and_target(seed)
    loss = SPLoss(loss_type)
    torch.testing.assert_close(loss(prediction, target), loss(target, prediction))
    assert loss(target, target) == 0 < loss(prediction, target)


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"^loss: got 'huber', takes one of smooth_l1, l1, mse"):
        SPLoss("huber")


@given(_seeds, st.integers(2, 40))
def test_r2_matches_sklearn_and_torchmetrics(seed, rows):
    prediction, target = _prediction_and_target(seed, rows)
    ours = r2(prediction, target)
    sklearn_r2 = torch.tensor(r2_score(target, prediction, multioutput="raw_values"))
    torch.testing.assert_close(ours, sklearn_r2.float(), atol=1e-3, rtol=1e-3)
    torchmetrics_r2 = r2_of_torchmetrics(prediction, target, multioutput="raw_values")
    # torchmetrics returns 0 where the total sum of squares is below 1e-4.
    varies = (target - target.mean(dim=0)).square().sum(dim=0) > 2e-4
    torch.testing.assert_close(ours[varies], torchmetrics_r2[varies], atol=1e-3, rtol=1e-3)


def test_r2_of_one_row_is_nan():
    assert r2(*_prediction_and_target(0, rows=1)).isnan().all()
