"""Random light, colours and materials, independent of the class."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from sp_bench.data.scene import FOCAL, SKY, Colour, Material
from sp_bench.data.texture import FRACTALS, SIDE, patterns


def draw_light(rng: np.random.Generator) -> tuple[float, float, float]:
    """Direction of the light: a unit vector (right, up, towards the viewer)."""
    right = rng.uniform(0.25, 0.8) * (1 if rng.random() < 0.5 else -1)
    up, near = rng.uniform(0.45, 0.8), rng.uniform(0.3, 0.8)
    length = math.sqrt(right**2 + up**2 + near**2)
    return right / length, up / length, near / length


def draw_ground(rng: np.random.Generator) -> Material:
    """Material of the ground."""
    hue = (0.04, 0.45) if rng.random() < 0.7 else (0.0, 1.0)  # mostly earth, sand and grass
    return draw_material(rng, hue, (0.1, 0.5), (0.35, 0.75), (0.08, 0.25))


def draw_sky(rng: np.random.Generator) -> tuple[Material, Colour]:
    """Material of the sky, and its colour at the horizon."""
    blue = rng.random() < 0.6
    hue = rng.uniform(0.52, 0.66) if blue else rng.uniform(0, 1)
    high = colorsys.hsv_to_rgb(hue, rng.uniform(0.2, 0.6), rng.uniform(0.5, 0.9))
    low = colorsys.hsv_to_rgb(rng.uniform(0, 1), rng.uniform(0, 0.25), rng.uniform(0.75, 0.98))
    scale = rng.uniform(0.4, 1.0) * FOCAL / SKY
    clouds = int(rng.choice(FRACTALS[1:]))
    return Material(high, clouds, rng.uniform(0.02, 0.12), _origin(rng), scale, 0.0), low


def draw_wall(back_z: float, rng: np.random.Generator) -> tuple[Material, Colour]:
    """Material of a wall ``back_z`` metres away, and its colour at the floor."""
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.4), rng.uniform(0.4, 0.9))
    shade = rng.uniform(0.7, 1.0)
    red, green, blue = (shade * channel for channel in colour)
    pattern = int(rng.integers(len(patterns())))
    scale = rng.uniform(0.4, 1.2) * FOCAL / back_z
    wall = Material(colour, pattern, rng.uniform(0.04, 0.16), _origin(rng), scale, 0.0)
    return wall, (red, green, blue)


def draw_material(
    rng: np.random.Generator,
    hue: tuple[float, float] = (0.0, 1.0),
    saturation: tuple[float, float] = (0.25, 0.85),
    value: tuple[float, float] = (0.45, 0.95),
    contrast: tuple[float, float] = (0.03, 0.2),
) -> Material:
    """Material with hue, saturation, value and contrast from the given ranges."""
    return Material(
        colour=colorsys.hsv_to_rgb(
            rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value)
        ),
        pattern=int(rng.integers(len(patterns()))),
        contrast=rng.uniform(*contrast),
        origin=_origin(rng),
        scale=log_uniform(rng, 12, 40),
        turn=rng.uniform(-math.pi, math.pi),
    )


def _origin(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(SIDE)), int(rng.integers(SIDE))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Number from a range, uniform in its logarithm."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def triple(rng: np.random.Generator, low: float, high: float) -> Colour:
    """Three numbers from a range, uniform."""
    return rng.uniform(low, high), rng.uniform(low, high), rng.uniform(low, high)
