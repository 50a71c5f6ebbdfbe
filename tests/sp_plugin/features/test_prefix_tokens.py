"""Tokens before the patches: read from the model or measured, and left out of the mean."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sp_plugin.features.extraction import extract_features
from sp_plugin.features.input_size import find_input_size
from sp_plugin.features.prefix_tokens import declared_prefix, solve_prefix

PATCH, WIDTH = 8, 6


class TokenNet(nn.Module):
    """Patch tokens after ``prefix`` tokens that are far away from them.

    Args:
        prefix: number of these tokens.
        patch: side of a patch in pixels.
        conv: whether the patch embedding is a convolution, which shows the side of a patch.
        size: the one image size that it takes; None: any.
    """

    def __init__(
        self, prefix: int, patch: int = PATCH, conv: bool = False, size: int | None = None
    ) -> None:
        super().__init__()
        self.prefix, self.size = prefix, size
        self.patch = patch
        self.embed = nn.Conv2d(3, WIDTH, patch, patch) if conv else nn.Linear(3, WIDTH)

    def patches(self, x: Tensor) -> Tensor:
        if self.size not in (None, x.shape[-1]):
            raise ValueError(f"takes {self.size} px, got {x.shape[-1]} px")
        if isinstance(self.embed, nn.Conv2d):
            return self.embed(x).flatten(2).transpose(1, 2)
        pooled = nn.functional.avg_pool2d(x, self.patch)
        return self.embed(pooled.flatten(2).transpose(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x)
        prefix = patches.new_full((len(x), self.prefix, WIDTH), 100.0)
        return torch.cat([prefix, patches], dim=1)


def check_prefix_left_out(net: TokenNet, size: int) -> None:
    spec = find_input_size(net, size)
    assert spec.input_size == size
    assert spec.layout.num_prefix == net.prefix
    crops = torch.rand(2, 3, size, size)
    for training in (True, False):
        net.train(training)
        features = extract_features(net, crops, layout=spec.layout)
        torch.testing.assert_close(features, net.patches(crops).mean(dim=1))


# Counts at which tokens and patches together are a square number, and others. 17 px are no
# multiple of the patch.
@pytest.mark.parametrize("prefix", [0, 1, 2, 4, 5, 7, 9])
@pytest.mark.parametrize("size", [8, 16, 17, 24, 32])
@pytest.mark.parametrize("conv", [True, False])
def test_prefix_is_measured(prefix: int, size: int, conv: bool):
    check_prefix_left_out(TokenNet(prefix, conv=conv), size)


@pytest.mark.parametrize("prefix", [0, 1, 5, 7])
def test_prefix_of_one_size_is_measured(prefix: int):
    check_prefix_left_out(TokenNet(prefix, conv=True, size=16), 16)


def _attribute(net: TokenNet) -> None:
    net.num_prefix_tokens = 5


def _config(net: TokenNet) -> None:
    net.config = SimpleNamespace(num_register_tokens=4)
    net.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))


def _parameters(net: TokenNet) -> None:
    net.register_tokens = nn.Parameter(torch.zeros(1, 4, WIDTH))
    net.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))


@pytest.mark.parametrize("declare", [_attribute, _config, _parameters])
@pytest.mark.parametrize("wrap", [lambda net: net, nn.Sequential])
def test_prefix_is_read_from_the_model(declare, wrap):
    net = TokenNet(5, size=16)  # of 9 tokens 4 are patches, which nothing else shows
    declare(net)
    assert declared_prefix(wrap(net)) == 5
    spec = find_input_size(wrap(net), 16)
    assert spec.layout.num_prefix == 5


def test_declared_prefix_is_checked():
    net = nn.Sequential(TokenNet(0), nn.Identity())
    net.num_prefix_tokens = 5  # of the last layer; this one has 3 x 3 patches
    assert find_input_size(net, 24, layer="0").layout.num_prefix == 0


def test_class_token_alone_is_pooled():
    class ClassToken(nn.Module):
        num_prefix_tokens = 1

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)).unsqueeze(1)

    assert find_input_size(ClassToken(), 16).layout.num_prefix == 0


@pytest.mark.parametrize("prefix", range(0, 40))
def test_two_counts_give_the_prefix(prefix: int):
    for grid in range(1, 40):
        for odd in (0, 1):
            counts = prefix + grid**2, prefix + (2 * grid + odd) ** 2
            assert solve_prefix(*counts) == prefix


def test_unexplained_counts_give_no_prefix():
    assert solve_prefix(9, 11) is None
