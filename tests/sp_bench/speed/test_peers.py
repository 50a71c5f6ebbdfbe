"""The peers: targets worked by hand, and gradients that reach the features."""

from __future__ import annotations

import math
from typing import Any

import torch
from sp_bench.pretext_tasks.augself import AugSelfHead, augself_loss
from sp_bench.speed.peers import (
    Augmented,
    Drloc,
    _as_map,
    augmentation_differences,
    distances,
)
from torch import nn


def zero_last_layer(head: nn.Sequential) -> None:
    """Make a head predict 0 for any input."""
    last: Any = head[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def augmented_views() -> tuple[Augmented, Augmented]:
    first = Augmented(
        crop=torch.tensor([[0.5, 0.5, 0.4, 0.2], [0.1, 0.2, 0.2, 0.4]]),
        colour=torch.tensor([[1.0, 0.0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2]]),
        flip=torch.tensor([1.0, 0.0]),
    )
    second = Augmented(
        crop=torch.tensor([[0.25, 0.75, 0.4, 0.1], [0.1, 0.2, 0.2, 0.4]]),
        colour=torch.tensor([[0.0, 0.5, 0.5, 1.0], [0.2, 0.2, 0.2, 0.2]]),
        flip=torch.tensor([0.0, 0.0]),
    )
    return first, second


def test_augself_targets_by_hand() -> None:
    crop, colour, flip = augmentation_differences(*augmented_views()).values()
    expected = torch.tensor([[0.25, -0.25, 0.0, 0.1], [0.0] * 4])
    torch.testing.assert_close(crop, expected)
    torch.testing.assert_close(colour, torch.tensor([[1.0, -0.5, 0.0, -0.5], [0.0] * 4]))
    assert flip.tolist() == [1, 0]


def test_augself_loss_by_hand() -> None:
    peer: Any = AugSelfHead(6, colour=True)
    for name in ("crop", "colour", "flip"):
        zero_last_layer(peer[name])
    features = torch.randn(2, 2, 6)
    crop = (0.25**2 + 0.25**2 + 0.1**2) / 8
    colour = (1 + 0.25 + 0.25) / 8
    loss = augself_loss(peer(features), augmentation_differences(*augmented_views())).mean()
    torch.testing.assert_close(loss.item(), crop + colour + math.log(2), atol=1e-6, rtol=0)


def test_drloc_targets_by_hand() -> None:
    first, second = torch.tensor([[0, 0], [3, 1]]), torch.tensor([[2, 3], [0, 1]])
    assert distances(first, second, 4, 6).tolist() == [[0.5, 0.5], [0.75, 0.0]]


def test_drloc_compares_sampled_positions() -> None:
    # A head that subtracts the coordinates of the positions is right everywhere.
    class Subtract(nn.Module):
        def forward(self, both: torch.Tensor) -> torch.Tensor:
            return (both[..., :2] - both[..., 2:]).abs()

    height, width = 4, 5
    rows = (torch.arange(height) / height)[:, None].expand(height, width)
    columns = (torch.arange(width) / width).expand(height, width)
    peer: Any = Drloc(2, pairs=50)
    peer.distance = Subtract()
    maps = [torch.stack([rows, columns]).expand(3, 2, height, width)] * 2
    assert peer(maps, torch.Generator().manual_seed(0)) < 1e-6


def test_gradients_reach_all_features() -> None:
    features = [torch.randn(2, 6, requires_grad=True) for _ in range(2)]
    predicted = AugSelfHead(6, colour=True)(torch.stack(features))
    augself_loss(predicted, augmentation_differences(*augmented_views())).mean().backward()
    maps = [torch.randn(2, 6, 2, 2, requires_grad=True) for _ in range(2)]
    Drloc(6)(maps, torch.Generator().manual_seed(0)).backward()
    for each in (*features, *maps):
        assert each.grad is not None and each.grad.flatten(1).any(dim=1).all()


def test_tokens_are_reshaped_to_a_map() -> None:
    tokens = torch.arange(10.0).expand(1, 10).unsqueeze(2)  # a class token, then 3 x 3 patches
    assert _as_map(tokens, prefix_tokens=1)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
