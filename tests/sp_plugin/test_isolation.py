"""Isolation: seeds, private generators and evaluation mode."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from sp_plugin.isolation import eval_mode, hash_seed, make_generator, private_rng


def _rng_states():
    name, keys, position, gauss, cached = np.random.get_state()  # noqa: NPY002
    numpy_state = (name, tuple(keys), position, gauss, cached)
    return torch.get_rng_state().tolist(), random.getstate(), numpy_state


def _draw_from_all() -> list[float]:
    numpy_draw = np.random.rand()  # noqa: NPY002
    return [torch.rand(()).item(), random.random(), numpy_draw, torch.randn(()).item()]


def test_hash_seeds_differ_and_have_63_bits():
    seeds = {hash_seed(*parts) for parts in np.ndindex(6, 6, 20)}
    assert len(seeds) == 6 * 6 * 20
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**60
    assert hash_seed(1, 23) != hash_seed(12, 3)


def test_make_generator_depends_on_key_only():
    draws = [torch.rand(4, generator=make_generator(*key)) for key in ((0, 1), (0, 1), (1, 0))]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_private_rng_restores_all_states():
    before = _rng_states()
    with private_rng(3):
        _draw_from_all()
        assert _rng_states() != before
    assert _rng_states() == before


def test_private_rng_restores_on_exception():
    before = _rng_states()
    with pytest.raises(KeyError), private_rng(3):
        _draw_from_all()
        raise KeyError
    assert _rng_states() == before


def test_private_rng_depends_on_seed_only():
    with private_rng(2**63 - 1):
        first = _draw_from_all()
    _draw_from_all()
    with private_rng(2**63 - 1):
        again = _draw_from_all()
    with private_rng(2**63 - 2):
        other = _draw_from_all()
    assert first == again
    assert not set(first) & set(other)


def test_private_rng_blocks_nest():
    with private_rng(1):
        expected = [_draw_from_all(), _draw_from_all()]
    before = _rng_states()
    with private_rng(1):
        outer = [_draw_from_all()]
        with private_rng(2):
            _draw_from_all()
        outer.append(_draw_from_all())
    assert outer == expected and _rng_states() == before


def test_later_draws_are_unaffected():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = _draw_from_all()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    with private_rng(9):
        nn.Linear(30, 30)
        _draw_from_all()
    assert _draw_from_all() == expected


class _Mixed(nn.Module):
    """Parts in either mode, a shared one, and a `train` that keeps one in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Dropout()
        self.first = nn.Sequential(nn.BatchNorm1d(2), shared)
        self.second = nn.Sequential(shared, nn.Linear(2, 2).eval())
        self.teacher = nn.Sequential(nn.BatchNorm1d(2)).eval()

    def train(self, mode: bool = True) -> _Mixed:
        super().train(mode)
        self.teacher.eval()
        return self


@pytest.mark.parametrize("raises", [False, True])
def test_eval_mode_restores_each_module(raises):
    net = _Mixed()
    net.second.eval()
    net.first.train()  # includes the shared part
    modes = [part.training for part in net.modules()]
    assert True in modes and False in modes
    try:
        with eval_mode(net):
            assert not any(part.training for part in net.modules())
            assert not torch.is_grad_enabled()
            if raises:
                raise KeyError
    except KeyError:
        assert raises
    assert [part.training for part in net.modules()] == modes
    assert torch.is_grad_enabled()


class _Caching(nn.Module):
    """Caches a value in evaluation mode until training continues, like LeViT's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.cache = None

    def train(self, mode: bool = True) -> _Caching:
        if mode:
            self.cache = None
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return x * self.weight
        self.cache = 2 * self.weight if self.cache is None else self.cache
        return x * self.cache / 2


def test_eval_mode_leaves_no_stale_cache():
    net = nn.Sequential(_Caching())
    with eval_mode(net):
        net(torch.ones(1))
    with torch.no_grad():
        net[0].weight.fill_(5)
    assert net.eval()(torch.ones(1)).item() == 5
