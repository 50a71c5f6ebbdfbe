"""SPHead: from the features of two crops to their relative position and scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_plugin.validation import choice

__all__ = ["HEADS", "SPHead"]

HEADS = ("antisymmetric", "plain", "difference")


class SPHead(nn.Module):
    """Small MLP h on the features of crops a and b. Its form is our choice.

    - ``antisymmetric``: g(a, b) = 1/2 [h(a, b) - h(b, a)], so g(b, a) = -g(a, b) by
      construction, like ``symmetric`` and ``image`` targets.
    - ``plain``: h(a, b).
    - ``difference``: h(b) - h(a), an ablation: it can only learn where each crop lies.

    LayerNorm rather than BatchNorm: it works for one image and shares nothing across ranks.

    Args:
        feature_dim: width D of the features.
        hidden_dim: width of the two hidden layers.
        head_type: one of ``HEADS``.

    Raises:
        ConfigError: an unknown ``head_type``.

    >>> head = SPHead(16)
    >>> a, b = torch.randn(2, 4, 16)
    >>> torch.allclose(head(a, b), -head(b, a), atol=1e-6)
    True
    """

    def __init__(
        self, feature_dim: int, hidden_dim: int = 512, head_type: str = "antisymmetric"
    ) -> None:
        super().__init__()
        self.head_type = choice(*HEADS)("head", head_type)
        inputs = feature_dim if head_type == "difference" else 2 * feature_dim
        self.norm = nn.LayerNorm(feature_dim)
        self.mlp = nn.Sequential(
            nn.Linear(inputs, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, 3, bias=False),
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Features (B, D) of crops a and b to predictions (B, 3) of x, y and sigma."""
        a, b = self.norm(a), self.norm(b)
        if self.head_type == "difference":
            return self._mlp(b) - self._mlp(a)
        inputs = [torch.cat(order, dim=1) for order in self._orders(a, b)]
        return self._combine_orders(self._mlp(torch.cat(inputs)))

    def forward_pairs(self, features: Tensor, pairs: Tensor) -> Tensor:
        """Predictions for pairs of k crops, equal to `forward` for each pair.

        The first layer is linear, W [a; b] = W_a a + W_b b: each crop goes through it once,
        however many pairs it is in.

        Args:
            features: (k, B, D).
            pairs: (2, P), indices of crops a and b of each pair.

        Returns:
            (PB, 3), the first B belong to the first pair.
        """
        if len(features) == 2:  # one pair: nothing to share
            a, b = features[pairs].flatten(1, 2)
            return self.forward(a, b)
        features = self.norm(features)
        if self.head_type == "difference":
            each = self._mlp(features)
            return (each[pairs[1]] - each[pairs[0]]).flatten(0, 1)
        first: nn.Linear = self.mlp[0]  # type: ignore[assignment]
        weight_left, weight_right = first.weight.chunk(2, dim=1)
        as_left = F.linear(features, weight_left, first.bias)
        as_right = F.linear(features, weight_right)
        hidden = torch.cat(
            [(as_left[a] + as_right[b]).flatten(0, 1) for a, b in self._orders(*pairs)]
        )
        for layer in self.mlp[1:]:
            hidden = layer(hidden)
        return self._combine_orders(hidden)

    def _orders(self, a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Orders in which h takes a pair."""
        return [(a, b)] if self.head_type == "plain" else [(a, b), (b, a)]

    def _combine_orders(self, outputs: Tensor) -> Tensor:
        """Prediction from h in all orders, one after the other."""
        if self.head_type == "plain":
            return outputs
        forward, backward = outputs.chunk(2)
        return (forward - backward) / 2

    def _mlp(self, features: Tensor) -> Tensor:
        output: Tensor = self.mlp(features)
        return output

    def extra_repr(self) -> str:
        return f"head_type={self.head_type!r}"
