"""The probe of dense features: BatchNorm and a 1x1 convolution, its output enlarged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_bench.tasks import EVALUATION_SEED
from sp_plugin.isolation import make_generator, private_rng

# 20 epochs, or as many as make 500 steps: of few images an epoch is a step or two.
_EPOCHS, _STEPS, _BATCH, _RATE = 20, 500, 32, 1e-2

Loss = Callable[[Tensor, Tensor], Tensor]


def fit_dense(features: Tensor, values: Tensor, outputs: int, loss: Loss) -> nn.Module:
    """Fit the probe.

    Args:
        features: (m, D, h, w).
        values: (m, H, W), what the enlarged outputs are compared with.
        outputs: channels of the probe.
        loss: of outputs (B, outputs, H, W) and values (B, H, W), a number.

    Returns:
        The probe, in evaluation mode, from (B, D, h, w) to (B, outputs, h, w).
    """
    width = features.shape[1]
    with private_rng(0):
        probe = nn.Sequential(nn.BatchNorm2d(width), nn.Conv2d(width, outputs, 1))
    nn.init.zeros_(probe[1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(probe[1].bias)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(probe.parameters(), lr=_RATE, weight_decay=1e-4)
    batches = -(-len(features) // _BATCH)
    epochs = max(_EPOCHS, -(-_STEPS // batches))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * batches)
    generator = make_generator(EVALUATION_SEED)
    for _ in range(epochs):
        for rows in torch.randperm(len(features), generator=generator).split(_BATCH):
            told = enlarged(probe(features[rows]), values.shape[1:])
            optimizer.zero_grad()
            loss(told, values[rows]).backward()
            optimizer.step()
            schedule.step()
    return probe.eval()


@torch.no_grad()
def predict_dense(probe: nn.Module, features: Tensor, size: tuple[int, ...]) -> Tensor:
    """What the probe says of one image, (outputs, H, W), from its features (D, h, w)."""
    return enlarged(probe(features[None]), size)[0]


def enlarged(told: Tensor, size: tuple[int, ...]) -> Tensor:
    """Outputs (B, K, h, w) as large as the values, (B, K, H, W), bilinear."""
    return F.interpolate(told, size=list(size), mode="bilinear", align_corners=False)
