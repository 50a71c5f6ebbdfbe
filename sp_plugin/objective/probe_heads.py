"""Heads of the spatial probe: one of both crops of a pair, and its control, of one crop alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sp_plugin.objective.head import SPHead

__all__ = ["ProbeHeads"]


class ProbeHeads(nn.Module):
    """Predict the targets of pairs of crops from both, and from each crop alone.

    A crop lies inside its view, so its own position predicts a part of the offset to another: what
    a control of one crop explains says nothing of *where one lies from the other*. Both begin with
    predictions of 0, the mean of the targets.

    Args:
        feature_dim: width D of the features.
        hidden_dim: width of the hidden layers.

    >>> heads, pairs = ProbeHeads(8), torch.tensor([[0, 0, 1], [1, 2, 2]])
    >>> target, known = torch.ones(15, 3), torch.ones(5)
    >>> heads.squared_errors(torch.rand(3, 5, 8), pairs, target, known).tolist()[1]
    [15.0, 15.0, 15.0]
    """

    def __init__(self, feature_dim: int, hidden_dim: int = 128) -> None:
        super().__init__()
        self.pair = SPHead(feature_dim, hidden_dim)
        self.one = SPHead(feature_dim, hidden_dim, "difference")  # whose MLP takes one crop
        for head in (self.pair, self.one):
            nn.init.zeros_(head.mlp[-1].weight)  # type: ignore[arg-type]

    def squared_errors(
        self, features: Tensor, pairs: Tensor, target: Tensor, known: Tensor
    ) -> Tensor:
        """Sums of squared errors over pairs of crops.

        Args:
            features: (k, n, D), k crops of each of n images.
            pairs: (2, P), indices of crops a and b of each pair.
            target: (Pn, 3), antisymmetric, of crops a and b, the n of the first pair first; finite.
            known: (n,), 1 for the images that count and 0 for the others.

        Returns:
            (4, 3), of the predictions 0, from both crops, from a alone and from b alone; their
            columns are x, y and sigma.
        """
        from_both = self.pair.forward_pairs(features, pairs)
        from_one = self.one.mlp(self.one.norm(features))
        from_a, from_b = from_one[pairs[0]].flatten(0, 1), -from_one[pairs[1]].flatten(0, 1)
        predictions = torch.stack([torch.zeros_like(from_both), from_both, from_a, from_b])
        counts = known.repeat(pairs.shape[1]).unsqueeze(1)
        return ((target - predictions).square() * counts).sum(dim=1)
