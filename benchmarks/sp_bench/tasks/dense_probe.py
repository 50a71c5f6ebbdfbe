"""Probe of dense features: BatchNorm and a 1x1 convolution, with its output upsampled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_bench.tasks.task import EVALUATION_SEED
from sp_plugin.isolation import make_generator, private_rng

# 20 epochs, or 500 steps if that is more: an epoch of few images has only a step or two.
_EPOCHS, _STEPS, _BATCH, _LEARNING_RATE = 20, 500, 32, 1e-2

Loss = Callable[[Tensor, Tensor], Tensor]


def fit_dense(features: Tensor, values: Tensor, outputs: int, loss: Loss) -> nn.Module:
    """Fit the probe.

    Args:
        features: (m, D, h, w).
        values: (m, H, W), targets of the upsampled outputs.
        outputs: number of channels of the probe.
        loss: function from outputs (B, outputs, H, W) and values (B, H, W) to a scalar.

    Returns:
        The probe in evaluation mode, from (B, D, h, w) to (B, outputs, h, w).
    """
    feature_dim = features.shape[1]
    with private_rng(0):
        probe = nn.Sequential(nn.BatchNorm2d(feature_dim), nn.Conv2d(feature_dim, outputs, 1))
    nn.init.zeros_(probe[1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(probe[1].bias)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(probe.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
    batches = -(-len(features) // _BATCH)
    epochs = max(_EPOCHS, -(-_STEPS // batches))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=epochs * batches
    )
    generator = make_generator(EVALUATION_SEED)
    for _ in range(epochs):
        for rows in torch.randperm(len(features), generator=generator).split(_BATCH):
            prediction = _upsample(probe(features[rows]), values.shape[1:])
            optimizer.zero_grad()
            loss(prediction, values[rows]).backward()
            optimizer.step()
            schedule.step()
    return probe.eval()


@torch.no_grad()
def predict_dense(
    predict: Callable[[Tensor], Tensor], features: Tensor, size: tuple[int, ...]
) -> Tensor:
    """Outputs of a probe for one image, (outputs, H, W), from its features (D, h, w)."""
    return _upsample(predict(features[None]), size)[0]


def _upsample(outputs: Tensor, size: tuple[int, ...]) -> Tensor:
    """Outputs (B, K, h, w) at the size of the values, (B, K, H, W), bilinear."""
    return F.interpolate(outputs, size=list(size), mode="bilinear", align_corners=False)
