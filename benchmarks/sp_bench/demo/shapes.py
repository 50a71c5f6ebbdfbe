"""Outlines of the demo's parts."""

from __future__ import annotations

import numpy as np

_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_ARC = np.linspace(0, np.pi, 13)
_RAYS = np.pi / 2 + np.linspace(0, 2 * np.pi, 10, endpoint=False)
_RADII = np.resize([1.0, 0.45], 10)

# Corners (n, 2) in [-1, 1], x to the right and y upwards.
SHAPES: dict[str, np.ndarray] = {
    "block": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float),
    "disc": np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1),
    "cone": np.array([(-1, -1), (1, -1), (0, 1)], float),
    "dome": np.stack([np.cos(_ARC), 2 * np.sin(_ARC) - 1], 1),
    "bowl": np.array([(-0.6, -1), (0.6, -1), (1, 1), (-1, 1)], float),
    "star": np.stack([_RADII * np.cos(_RAYS), _RADII * np.sin(_RAYS)], 1),
}
