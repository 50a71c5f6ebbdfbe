"""Staging: a random scene around a toy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sp_bench.data.palette import (
    draw_ground,
    draw_light,
    draw_material,
    draw_sky,
    draw_wall,
    log_uniform,
    triple,
)
from sp_bench.data.scene import FOCAL, SIDE, SKY, Scene, Shape, Thing
from sp_bench.data.world import DISC, PART_NAMES, POST, Piece

_PIXELS_PER_METRE = 29.0  # of a toy at scale 1
_SCALES = (0.6, 1.4)
_LEAN = math.radians(8)
_LAYER = 0.03  # metres between a part and the part behind it
_APART = 0.4  # metres between the toy and the clutter, so that neither intersects the other


def stage(pieces: tuple[Piece, ...], rng: np.random.Generator) -> Scene:
    """Build a random scene around a toy.

    The toy is inside the image as a whole, but other things may occlude a part of it.

    Args:
        pieces: parts of the toy.
        rng: generator of every random choice.

    >>> from sp_bench.data.world import TOYS
    >>> scene = stage(TOYS[0].build(0), np.random.default_rng(0))
    >>> sum(shape.part > 0 for thing in scene.things for shape in thing.shapes)
    4
    """
    unit = _PIXELS_PER_METRE * log_uniform(rng, *_SCALES)
    height = rng.uniform(0.7, 1.4)
    toy = _place_toy(pieces, unit, height, rng)
    horizon = toy.foot - unit * height
    outdoors = rng.random() < 0.6
    back_z = SKY if outdoors else toy.z * rng.uniform(1.4, 3.0)
    clutter = [_clutter(toy, horizon, height, back_z, rng) for _ in range(rng.integers(2, 6))]
    nearest = FOCAL * height / (SIDE - horizon)  # the ground at the lower edge of the image
    things = sorted([toy, *clutter], key=lambda thing: -thing.z) + _foreground(nearest, rng)
    back, back_low = draw_sky(rng) if outdoors else draw_wall(back_z, rng)
    return Scene(
        horizon=horizon,
        height=height,
        light=draw_light(rng),
        ground=draw_ground(rng),
        back=back,
        back_low=back_low,
        back_z=back_z,
        hills=rng.uniform(2, 9) if outdoors and rng.random() < 0.6 else 0.0,
        things=tuple(things),
        blur=rng.uniform(0, 0.25),
        noise=rng.uniform(0.005, 0.035),
        gain=triple(rng, 0.92, 1.08),
        noise_key=int(rng.integers(2**32)),
    )


def _place_toy(
    pieces: tuple[Piece, ...], unit: float, height: float, rng: np.random.Generator
) -> Thing:
    """The toy on the ground, at a random position inside the image that leaves a horizon."""
    shapes = _put_together(pieces, unit, rng)
    left, right = min(s.x - s.reach[0] for s in shapes), max(s.x + s.reach[0] for s in shapes)
    top, bottom = min(s.y - s.reach[1] for s in shapes), max(s.y + s.reach[1] for s in shapes)
    drop = unit * height  # from the horizon to the foot
    lowest = min(SIDE - 3, 0.72 * SIDE + drop)
    highest = min(max(bottom - top + 1, drop + 8), lowest)
    foot = rng.uniform(highest, lowest)
    x, y = rng.uniform(1 - left, SIDE - 1 - right), foot - bottom
    return Thing(tuple(replace(s, x=s.x + x, y=s.y + y) for s in shapes), foot, FOCAL / unit)


def _put_together(pieces: tuple[Piece, ...], unit: float, rng: np.random.Generator) -> list[Shape]:
    """Parts relative to the foot of the toy, with a random lean and jitter."""
    lean = rng.uniform(-_LEAN, _LEAN)
    sin, cos = math.sin(lean), math.cos(lean)
    shapes = []
    for layer, piece in enumerate(pieces):
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
            z=FOCAL / unit - _LAYER * layer,
            material=draw_material(rng),
        )
        shapes.append(shape)
    return shapes


def _clutter(
    toy: Thing, horizon: float, height: float, back_z: float, rng: np.random.Generator
) -> Thing:
    """A part of no toy, on the ground or in the air; to the side of the toy if it is nearer."""
    left = min(s.x - s.reach[0] for s in toy.shapes)
    right = max(s.x + s.reach[0] for s in toy.shapes)
    z = toy.z * log_uniform(rng, 0.8, 2.5)
    if abs(z - toy.z) < _APART:
        z = toy.z + _APART
    z = min(z, 0.95 * back_z)
    a, b = (FOCAL / z * rng.uniform(0.14, 0.34) for _ in range(2))
    kind = int(rng.integers(1, len(PART_NAMES) + 1))
    x = rng.uniform(0, SIDE)
    if left - a < x < right + a and z < toy.z:  # it would occlude the toy
        x = left - a if x < (left + right) / 2 else right + a
    foot = horizon + FOCAL * height / z
    flies = rng.random() < 0.3
    y = rng.uniform(0, horizon) if flies else foot - b
    turn = rng.uniform(-math.pi, math.pi) if flies else 0.0
    shape = Shape(kind, 0, x, y, a, b, turn, z, draw_material(rng))
    return Thing((shape,), foot, z, shadow=not flies)


def _foreground(nearest: float, rng: np.random.Generator) -> list[Thing]:
    """Stems and stones close to the camera, which occlude what is behind them."""
    things = []
    for _ in range(int(rng.integers(0, 4))):
        z = nearest * rng.uniform(0.7, 0.95)
        x = rng.uniform(0, SIDE)
        material = draw_material(rng, saturation=(0.2, 0.7), value=(0.15, 0.6))
        if rng.random() < 0.7:
            kind, a, b = POST, rng.uniform(0.9, 2.2), rng.uniform(0.15, 0.4) * SIDE
            y = SIDE - b / 2
        else:
            kind, a, b = DISC, rng.uniform(7, 16), rng.uniform(6, 12)
            y = SIDE - 0.2 * b
        shape = Shape(kind, 0, x, y, a, b, rng.normal(0, 0.2), z, material)
        things.append(Thing((shape,), SIDE, z, shadow=False))
    return sorted(things, key=lambda thing: -thing.z)
