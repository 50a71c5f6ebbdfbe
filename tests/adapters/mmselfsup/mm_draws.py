"""The generators that the hosts' transforms draw from."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed(number: int) -> None:
    """Seed all three of them."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # mmcv draws from it
    torch.manual_seed(number)


def one_of_each() -> tuple[float, ...]:
    """A number of each; the same again only where they stand as they stood."""
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
