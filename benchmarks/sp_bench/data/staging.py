"""Putting a toy into a scene of its own, by chance."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from sp_bench.data.scene import FOCAL, SIDE, SKY, Colour, Material, Scene, Shape, Thing
from sp_bench.data.texture import FRACTALS, patterns
from sp_bench.data.texture import SIDE as TEXTURE_SIDE
from sp_bench.data.world import DISC, PART_NAMES, POST, Piece

_PIXELS_PER_METRE = 29.0  # of a toy at scale 1
_SCALES = (0.6, 1.4)
_LEAN = math.radians(8)
_MIDDLE = SIDE / 2


def stage(pieces: tuple[Piece, ...], rng: np.random.Generator) -> Scene:
    """Draws a scene round a toy.

    Args:
        pieces: The parts of the toy.
        rng: Where every choice comes from.

    Returns:
        The scene; the toy stands wholly in the picture, though other things may hide some of it.

    Example:
        >>> from sp_bench.data.world import TOYS
        >>> scene = stage(TOYS[0].build(0), np.random.default_rng(0))
        >>> sum(shape.part > 0 for thing in scene.things for shape in thing.shapes)
        4
    """
    unit = _PIXELS_PER_METRE * _log_uniform(rng, *_SCALES)
    height = rng.uniform(0.7, 1.4)
    toy = _place_toy(pieces, unit, height, rng)
    horizon = toy.foot - unit * height
    outdoors = rng.random() < 0.6
    back_z = SKY if outdoors else toy.z * rng.uniform(1.4, 3.0)
    clutter = [_clutter(toy, horizon, height, back_z, rng) for _ in range(rng.integers(2, 6))]
    things = sorted([toy, *clutter], key=lambda thing: -thing.z) + _foreground(toy.z, rng)
    back, back_low = _sky(rng) if outdoors else _wall(back_z, rng)
    return Scene(
        horizon=horizon,
        height=height,
        light=_light(rng),
        ground=_material(rng, saturation=(0.1, 0.5), value=(0.35, 0.75), contrast=(0.08, 0.25)),
        back=back,
        back_low=back_low,
        back_z=back_z,
        hills=rng.uniform(2, 9) if outdoors and rng.random() < 0.6 else 0.0,
        things=tuple(things),
        blur=rng.uniform(0, 0.25),
        noise=rng.uniform(0.005, 0.035),
        gain=_triple(rng, 0.92, 1.08),
        noise_key=int(rng.integers(2**32)),
    )


def _place_toy(
    pieces: tuple[Piece, ...], unit: float, height: float, rng: np.random.Generator
) -> Thing:
    """The toy, leaning a little, its parts not quite in their places."""
    lean = rng.uniform(-_LEAN, _LEAN)
    sin, cos = math.sin(lean), math.cos(lean)
    shapes = []
    for depth, piece in enumerate(pieces):
        x, y = piece.x + rng.normal(0, 0.02), piece.y + rng.normal(0, 0.02)
        stretch = rng.uniform(0.92, 1.08)
        shape = Shape(
            kind=piece.kind,
            part=piece.kind,
            x=unit * (x * cos - y * sin),
            y=-unit * (x * sin + y * cos),
            a=unit * stretch * piece.width / 2,
            b=unit * stretch * piece.height / 2,
            turn=math.radians(piece.turn) + lean,
            z=FOCAL / unit - 0.03 * depth,
            material=_material(rng),
        )
        shapes.append(shape)
    left, right = min(s.x - s.reach[0] for s in shapes), max(s.x + s.reach[0] for s in shapes)
    top, bottom = min(s.y - s.reach[1] for s in shapes), max(s.y + s.reach[1] for s in shapes)
    across = rng.uniform(1 - left, SIDE - 1 - right)
    drop = unit * height
    lowest = min(SIDE - 3, SIDE * 0.72 + drop)
    foot = rng.uniform(min(max(bottom - top + 1, drop + 8), lowest), lowest)
    moved = [_moved(shape, across, foot - bottom) for shape in shapes]
    return Thing(tuple(moved), foot, FOCAL / unit)


def _moved(shape: Shape, right: float, down: float) -> Shape:
    return Shape(**{**vars(shape), "x": shape.x + right, "y": shape.y + down})


def _clutter(
    toy: Thing, horizon: float, height: float, back_z: float, rng: np.random.Generator
) -> Thing:
    """A part that belongs to no toy, standing about or in the air, and seldom before the toy."""
    left = min(s.x - s.reach[0] for s in toy.shapes)
    right = max(s.x + s.reach[0] for s in toy.shapes)
    z = min(toy.z * _log_uniform(rng, 0.8, 2.5), 0.95 * back_z)
    a, b = (FOCAL / z * rng.uniform(0.14, 0.34) for _ in range(2))
    kind = int(rng.integers(1, len(PART_NAMES) + 1))
    x = rng.uniform(0, SIDE)
    if left - a < x < right + a and z < toy.z:  # it would hide the toy
        x = left - a if x < (left + right) / 2 else right + a
    foot = horizon + FOCAL * height / z
    flies = rng.random() < 0.3
    y = rng.uniform(0, horizon) if flies else foot - b
    turn = rng.uniform(-math.pi, math.pi) if flies else 0.0
    shape = Shape(kind, 0, x, y, a, b, turn, z, _material(rng))
    return Thing((shape,), foot, z, shadow=not flies)


def _foreground(toy_z: float, rng: np.random.Generator) -> list[Thing]:
    """Stems and stones close to the camera, which hide some of what is behind them."""
    things = []
    for _ in range(int(rng.integers(0, 4))):
        z = toy_z * rng.uniform(0.45, 0.65)
        x = rng.uniform(0, SIDE)
        material = _material(rng, saturation=(0.2, 0.7), value=(0.15, 0.6))
        if rng.random() < 0.7:
            long = rng.uniform(0.15, 0.4) * SIDE
            shape = Shape(
                POST, 0, x, SIDE - long / 2, rng.uniform(0.9, 2.2), long, rng.normal(0, 0.2), z, material
            )
        else:
            a, b = rng.uniform(7, 16), rng.uniform(6, 12)
            shape = Shape(DISC, 0, x, SIDE - 0.2 * b, a, b, rng.normal(0, 0.2), z, material)
        things.append(Thing((shape,), SIDE, z, shadow=False))
    return sorted(things, key=lambda thing: -thing.z)


def _light(rng: np.random.Generator) -> tuple[float, float, float]:
    right = rng.uniform(0.25, 0.8) * (1 if rng.random() < 0.5 else -1)
    up, near = rng.uniform(0.45, 0.8), rng.uniform(0.3, 0.8)
    length = math.sqrt(right**2 + up**2 + near**2)
    return right / length, up / length, near / length


def _sky(rng: np.random.Generator) -> tuple[Material, Colour]:
    blue = rng.random() < 0.6
    hue = rng.uniform(0.52, 0.66) if blue else rng.uniform(0, 1)
    high = colorsys.hsv_to_rgb(hue, rng.uniform(0.2, 0.6), rng.uniform(0.5, 0.9))
    low = colorsys.hsv_to_rgb(rng.uniform(0, 1), rng.uniform(0, 0.25), rng.uniform(0.75, 0.98))
    scale = rng.uniform(0.4, 1.0) * FOCAL / SKY
    clouds = int(rng.choice(FRACTALS[1:]))
    return Material(high, clouds, rng.uniform(0.02, 0.12), _origin(rng), scale, 0.0), low


def _wall(back_z: float, rng: np.random.Generator) -> tuple[Material, Colour]:
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.4), rng.uniform(0.4, 0.9))
    shade = rng.uniform(0.7, 1.0)
    red, green, blue = (shade * each for each in colour)
    pattern = int(rng.integers(len(patterns())))
    scale = rng.uniform(0.4, 1.2) * FOCAL / back_z
    wall = Material(colour, pattern, rng.uniform(0.04, 0.16), _origin(rng), scale, 0.0)
    return wall, (red, green, blue)


def _material(
    rng: np.random.Generator,
    saturation: tuple[float, float] = (0.25, 0.85),
    value: tuple[float, float] = (0.45, 0.95),
    contrast: tuple[float, float] = (0.03, 0.2),
) -> Material:
    return Material(
        colour=colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)),
        pattern=int(rng.integers(len(patterns()))),
        contrast=rng.uniform(*contrast),
        origin=_origin(rng),
        scale=_log_uniform(rng, 12, 40),
        turn=rng.uniform(-math.pi, math.pi),
    )


def _origin(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(TEXTURE_SIDE)), int(rng.integers(TEXTURE_SIDE))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _triple(rng: np.random.Generator, low: float, high: float) -> Colour:
    return rng.uniform(low, high), rng.uniform(low, high), rng.uniform(low, high)
