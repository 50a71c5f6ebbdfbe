"""Cue conflicts of the demo: one outline, filled with the pattern of another."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sp_bench.demo.shapes import SHAPES
from sp_bench.demo.world import draw_polygon


def draw_cue(shape: int, pattern: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw an outline on plain ground, filled with a pattern.

    Brightness and colours depend on neither class.

    Args:
        shape: outline, a position in ``SHAPES``.
        pattern: pattern that belongs to the outline of this position.
        side: side S of the image in pixels.
        rng: generator of colours, place, turn and phase.

    Returns:
        Image, (S, S, 3) uint8.

    >>> draw_cue(0, 3, 48, np.random.default_rng(0)).shape
    (48, 48, 3)
    """
    turn, half = rng.uniform(-0.3, 0.3), rng.uniform(0.28, 0.4)
    rotation = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    corners = rng.uniform(0.45, 0.55, 2) + (list(SHAPES.values())[shape] * (half, -half)) @ rotation
    cover = Image.new("L", (4 * side, 4 * side))
    draw_polygon(ImageDraw.Draw(cover), corners, 255)
    alpha = np.asarray(cover.reduce(4), float)[..., None] / 255
    y, x = np.mgrid[:side, :side] * (2 * np.pi * 8 / side) + rng.uniform(0, 6, (2, 1, 1))
    ripples = (
        np.sin(x),  # upright stripes
        np.sin(y),
        np.sin((x + y) * 0.7),
        np.sin(x) * np.sin(y),  # checks
        np.minimum(np.cos(x), np.cos(y)),  # a lattice
        rng.normal(0, 0.6, (side, side)),
    )
    ground, colour = rng.uniform(0.25, 0.75, (2, 3))
    filling = colour * (1 + 0.3 * np.sign(ripples[pattern])[..., None])
    image = ground + alpha * (filling - ground) + rng.normal(0, 0.01, (side, side, 3))
    return np.asarray((image * 255).clip(0, 255).astype(np.uint8))
