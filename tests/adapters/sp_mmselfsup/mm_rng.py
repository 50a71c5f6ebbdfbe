"""The global generators that the frameworks' transforms draw from."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed(number: int) -> None:
    """Seed all three."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # mmcv draws from it
    torch.manual_seed(number)


def draw_from_each() -> tuple[float, ...]:
    """A number from each generator, the same only where all states are the same."""
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
