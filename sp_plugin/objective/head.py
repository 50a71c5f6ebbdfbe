"""SPHead: from the features of two crops to their relative position and scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEADS = ("antisymmetric", "plain", "difference")


class SPHead(nn.Module):
    """A small MLP on the features of crops a and b. The form is our choice.

    - ``antisymmetric``: g(a, b) = 1/2 [h(a, b) - h(b, a)], so g(b, a) = -g(a, b) by
      construction, as ``symmetric`` and ``image`` targets are.
    - ``plain``: h(a, b).
    - ``difference``: f(b) - f(a), an ablation: it can only learn where each crop lies.

    LayerNorm rather than BatchNorm: it works for one image and shares nothing across ranks.

    Args:
        feature_dim: width D of the features.
        width: of the two hidden layers.
        kind: one of ``HEADS``.

    >>> head = SPHead(16)
    >>> a, b = torch.randn(2, 4, 16)
    >>> torch.allclose(head(a, b), -head(b, a), atol=1e-6)
    True
    """

    def __init__(self, feature_dim: int, width: int = 512, kind: str = "antisymmetric") -> None:
        super().__init__()
        if kind not in HEADS:
            raise ValueError(f"head: got {kind!r}, takes one of {', '.join(HEADS)}")
        self.kind = kind
        inputs = feature_dim if kind == "difference" else 2 * feature_dim
        self.norm = nn.LayerNorm(feature_dim)
        self.mlp = nn.Sequential(
            nn.Linear(inputs, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 3, bias=False),
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Features (B, D) of crops a and b to predictions (B, 3) of x, y and sigma."""
        a, b = self.norm(a), self.norm(b)
        if self.kind == "difference":
            return self._mlp(b) - self._mlp(a)
        if self.kind == "plain":
            return self._mlp(torch.cat([a, b], dim=1))
        both = torch.cat([torch.cat([a, b], dim=1), torch.cat([b, a], dim=1)])
        forth, back = self._mlp(both).chunk(2)
        return (forth - back) / 2

    def forward_pairs(self, features: Tensor, pairs: Tensor) -> Tensor:
        """The same for pairs of k crops, without doing twice what is done for each crop alone.

        The first layer is linear, W [a; b] = W_a a + W_b b: each crop goes through it once,
        however many pairs it is in.

        Args:
            features: (k, B, D).
            pairs: (2, P), which crops are a and b of each pair.

        Returns:
            (PB, 3), the first B of the first pair.
        """
        if len(features) == 2:  # nothing to share
            a, b = features[pairs].flatten(1, 2)
            return self.forward(a, b)
        a, b = pairs
        features = self.norm(features)
        if self.kind == "difference":
            each = self._mlp(features)
            return (each[b] - each[a]).flatten(0, 1)
        first: nn.Linear = self.mlp[0]  # type: ignore[assignment]
        weight_a, weight_b = first.weight.chunk(2, dim=1)
        as_a, as_b = F.linear(features, weight_a, first.bias), F.linear(features, weight_b)
        forth = (as_a[a] + as_b[b]).flatten(0, 1)
        if self.kind == "plain":
            return self._after_first(forth)
        back = (as_a[b] + as_b[a]).flatten(0, 1)
        forth, back = self._after_first(torch.cat([forth, back])).chunk(2)
        return (forth - back) / 2

    def _after_first(self, hidden: Tensor) -> Tensor:
        for layer in self.mlp[1:]:
            hidden = layer(hidden)
        return hidden

    def _mlp(self, features: Tensor) -> Tensor:
        output: Tensor = self.mlp(features)
        return output

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}"
