"""SPHead: from the features of two crops to their relative position and scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        ValueError: an unknown ``head_type``.

    >>> head = SPHead(16)
    >>> a, b = torch.randn(2, 4, 16)
    >>> torch.allclose(head(a, b), -head(b, a), atol=1e-6)
    True
    """

    def __init__(
        self, feature_dim: int, hidden_dim: int = 512, head_type: str = "antisymmetric"
    ) -> None:
        super().__init__()
        if head_type not in HEADS:
            raise ValueError(f"head: got {head_type!r}, takes one of {', '.join(HEADS)}")
        self.head_type = head_type
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
        return self.forward_pairs(torch.stack([a, b]), torch.tensor([[0], [1]], device=a.device))

    def forward_pairs(self, features: Tensor, pairs: Tensor) -> Tensor:
        """Predictions for pairs of k crops.

        Args:
            features: (k, B, D).
            pairs: (2, P), indices of crops a and b of each pair.

        Returns:
            (PB, 3), the first B belong to the first pair.
        """
        features = self.norm(features)
        a, b = pairs
        if self.head_type == "difference":
            each = self._mlp(features)
            return (each[b] - each[a]).flatten(0, 1)
        if self.head_type == "plain":
            return self._mlp_of_ordered_pairs(features, a, b)
        both_orders = self._mlp_of_ordered_pairs(features, torch.cat([a, b]), torch.cat([b, a]))
        forward, backward = both_orders.chunk(2)
        return (forward - backward) / 2

    def _mlp_of_ordered_pairs(self, features: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """h(left, right) for ordered pairs of normalised features; (PB, 3)."""
        if len(features) == 2:
            inputs = torch.cat([features[left], features[right]], dim=-1)
            return self._mlp(inputs.flatten(0, 1))
        # The first layer is linear, W [a; b] = W_a a + W_b b: each crop goes through it once,
        # however many pairs it is in.
        first: nn.Linear = self.mlp[0]  # type: ignore[assignment]
        weight_left, weight_right = first.weight.chunk(2, dim=1)
        as_left = F.linear(features, weight_left, first.bias)
        as_right = F.linear(features, weight_right)
        hidden = (as_left[left] + as_right[right]).flatten(0, 1)
        for layer in self.mlp[1:]:
            hidden = layer(hidden)
        return hidden

    def _mlp(self, features: Tensor) -> Tensor:
        output: Tensor = self.mlp(features)
        return output

    def extra_repr(self) -> str:
        return f"head_type={self.head_type!r}"
