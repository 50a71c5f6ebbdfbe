"""Outlines of the parts as signed distance functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sp_bench.data.world import BLOCK, CONE, DISC, DOME, POST, RING

Distance = Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]


@dataclass(frozen=True)
class Outline:
    """Front view of a kind of part.

    Attributes:
        distance: function from (x, y, half width, half height) to the signed distance from the
            outline, negative inside; x to the right and y upwards from the centre, in one unit.
        bevel: width of the curved border of the surface, as a fraction of the lesser half size.
    """

    distance: Distance
    bevel: float


def _box(x: np.ndarray, y: np.ndarray, a: float, b: float, radius: float) -> np.ndarray:
    dx, dy = np.abs(x) - (a - radius), np.abs(y) - (b - radius)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0) - radius)


def _block(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    return _box(x, y, a, b, 0.25 * min(a, b))


def _post(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    return _box(x, y, a, b, min(a, b))


def _disc(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    return np.asarray((np.hypot(x / a, y / b) - 1) * min(a, b))


def _cone(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    side = (2 * b * np.abs(x) + a * (y - b)) / math.hypot(2 * b, a)
    return np.asarray(np.maximum(side, -y - b))


def _ring(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    return np.asarray(np.abs(np.hypot(x, y * (a / b)) - 0.8 * a) - 0.2 * a)


def _dome(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    round_top = (np.hypot(x / a, (y + b) / (2 * b)) - 1) * min(a, 2 * b)
    return np.asarray(np.maximum(round_top, -y - b))


OUTLINES: dict[int, Outline] = {
    BLOCK: Outline(_block, 0.35),
    DISC: Outline(_disc, 1.0),
    CONE: Outline(_cone, 0.5),
    POST: Outline(_post, 1.0),
    RING: Outline(_ring, 0.2),
    DOME: Outline(_dome, 0.9),
}
