"""RankMe and the spread of features, against cases by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sp_plugin.features.collapse import feature_std, rankme


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_rankme_equals_its_definition(shape: tuple[int, int]):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum()
    expected = (-(shares * shares.log()).sum()).exp().item()
    assert rankme(features).item() == pytest.approx(expected, rel=1e-4)
    assert 1 < expected < 12


def test_rankme_of_two_directions():
    features = torch.zeros(6, 5)
    features[0, 0], features[1, 3] = 3, 1  # singular values 3 and 1
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert rankme(features).item() == pytest.approx(expected, rel=1e-4)


def test_rankme_does_not_depend_on_scale():
    features = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    assert rankme(1e3 * features).item() == pytest.approx(rankme(features).item(), rel=1e-5)


def test_feature_std_of_random_directions():
    features = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert feature_std(7 * features).item() == pytest.approx(0.25, rel=0.02)
    assert feature_std(torch.ones(9, 16) * torch.arange(1, 10).unsqueeze(1)).item() < 1e-6


def test_monitors_of_no_rows_are_0():
    for count in (0, 1):
        assert feature_std(torch.ones(count, 4)) == 0
    assert rankme(torch.ones(0, 4)) == 0
    assert rankme(torch.zeros(3, 4)).isfinite()
