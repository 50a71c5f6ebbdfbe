"""Scenes of the demo: things made of parts, drawn as polygons from back to front.

A thing of a class has the same parts at the same positions in it, and stands in the middle of the
image between sky and ground. So the content of a crop tells where in the image it lies.
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sp_bench.demo.shapes import SHAPES

PART_NAMES = ("wall", "roof", "window", "leg", "wheel", "leaf")
SIZES = {"small": 0.65, "medium": 1.0, "large": 1.5}  # of the last part of a thing
SKY = 60.0  # metres
_OVERSAMPLING = 2  # PIL's polygons have hard edges
_EYE = 1.5  # height in metres; the focal length is the side of the image

# Parts of each class from back to front: name, shape, centre x and y, half width and half height.
# The thing stands at (0, 0) and is about 2 high; a part that is not at x = 0 has a mirrored twin.
_THINGS = """
house: wall block 0 .6 .75 .6, roof cone 0 1.55 1 .4, window block .42 .75 .15 .17,
    leg block 0 .3 .16 .3
tree: leg block 0 .35 .14 .35, leaf cone 0 .95 .85 .45, leaf cone 0 1.5 .6 .45,
    wheel disc .3 .75 .12 .12
car: roof dome 0 1.05 .65 .35, wall block 0 .6 1 .3, window block .27 1.05 .18 .15,
    wheel disc .6 .27 .27 .27
boat: leg block 0 1.2 .06 .8, leaf cone .45 1.2 .35 .55, wall bowl 0 .3 .95 .3,
    window disc .4 .33 .12 .12
robot: leg block .35 .25 .18 .25, leg block .8 .9 .14 .35, wall block 0 .85 .6 .42,
    roof block 0 1.6 .42 .3, window star .18 1.65 .15 .15
clown: wheel disc .8 .85 .2 .25, wall disc 0 .8 .78 .78, roof cone 0 1.65 .55 .35,
    leg bowl 0 .42 .35 .12, window disc .3 1 .13 .13
flower: leg block 0 .5 .08 .5, leaf disc .4 .35 .35 .14, roof star 0 1.35 .75 .65,
    wheel disc 0 1.35 .24 .24
rocket: leg cone .42 .45 .25 .45, wall block 0 .95 .36 .55, roof cone 0 1.75 .36 .25,
    window disc 0 1.15 .16 .16
mushroom: wall bowl 0 .4 .35 .4, roof dome 0 1.2 .95 .5, window star 0 1.35 .18 .18,
    window disc .5 1.05 .15 .15
"""


class Part(NamedTuple):
    """A part of a thing, in units of half the thing's height; ``name`` is in ``PART_NAMES``."""

    name: str
    shape: str
    x: float
    y: float
    width: float
    height: float


def _parse(text: str) -> dict[str, tuple[Part, ...]]:
    things = {}
    for line in text.strip().replace(",\n", ",").splitlines():
        thing, parts = line.split(":")
        words = [part.split() for part in parts.split(",")]
        things[thing] = tuple(Part(w[0], w[1], *map(float, w[2:])) for w in words)
    return things


THINGS = _parse(_THINGS)


class Scene(NamedTuple):
    """An image with the values of its pixels.

    Attributes:
        image: (S, S, 3) uint8.
        part_mask: (S, S) uint8: visible part of the thing, ``PART_NAMES[k - 1]``; 0 for none.
        depth: (S, S) float32, distance in metres, above 0 and at most ``SKY``.
    """

    image: np.ndarray
    part_mask: np.ndarray
    depth: np.ndarray


def draw_scene(label: int, size: int, side: int, rng: np.random.Generator) -> Scene:
    """Draw a thing between sky and ground.

    Args:
        label: class, a position in ``THINGS``.
        size: size of the last part, a position in ``SIZES``.
        side: side S of the image in pixels.
        rng: generator of colours, places, light and noise.

    >>> scene = draw_scene(0, 1, 48, np.random.default_rng(0))
    >>> scene.image.shape, int(scene.part_mask.max()), float(scene.depth.max())
    ((48, 48, 3), 4, 60.0)
    """
    parts = list(THINGS.values())[label]
    horizon, foot = rng.uniform(0.5, 0.65), rng.uniform(0.86, 0.96)
    middle, unit = rng.uniform(0.45, 0.55), rng.uniform(0.36, 0.44)
    down = (np.arange(side) + 0.5) / side
    rows = np.where(down > horizon, np.minimum(_EYE / (down - horizon).clip(1e-6), 50), SKY)
    depth = Image.fromarray(np.repeat(rows[:, None], side, 1).astype(np.float32))
    canvas, mask = _draw_backdrop(horizon, side, rng), Image.new("L", (side, side))
    brushes = [ImageDraw.Draw(layer) for layer in (canvas, mask, depth)]
    for index, part in enumerate(parts):
        hue = label * 0.382 + PART_NAMES.index(part.name) / 6
        fills = (
            draw_colour(hue, rng),
            PART_NAMES.index(part.name) + 1,
            _EYE / (foot - horizon) * (1 - 0.02 * index),
        )
        grow = list(SIZES.values())[size] if part is parts[-1] else 1.0
        outline = SHAPES[part.shape] * (part.width * grow, part.height * grow)
        for x in (part.x, -part.x)[: 2 if part.x else 1]:
            centre = (x, part.y)
            corners = np.array([middle, foot]) + (outline + centre) * (unit, -unit)
            for brush, fill in zip(brushes, fills, strict=True):
                draw_polygon(brush, corners, fill)
    light = 1 + rng.uniform(-0.3, 0.3) * (down - 0.5)  # from one side
    image = np.asarray(canvas.reduce(_OVERSAMPLING), float) * light[:, None]
    image = image + rng.normal(0, 6, (side, side, 1))
    return Scene(image.clip(0, 255).astype(np.uint8), np.asarray(mask), np.asarray(depth))


def draw_polygon(brush: ImageDraw.ImageDraw, corners: np.ndarray, fill: object) -> None:
    """Draw a polygon of corners (n, 2) in fractions of the image."""
    brush.polygon((corners * brush.im.size - 0.5).ravel().tolist(), fill=fill)  # type: ignore


def draw_colour(hue: float, rng: np.random.Generator) -> tuple[int, ...]:
    """A colour of about this hue, with random saturation and brightness."""
    hue, saturation, value = hue + rng.normal(0, 0.1), rng.uniform(0.35, 0.9), rng.uniform(0.45, 1)
    return tuple(int(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))


def _draw_backdrop(horizon: float, side: int, rng: np.random.Generator) -> Image.Image:
    """Sky that is brighter at the horizon, with clouds, and ground with stones."""
    width = side * _OVERSAMPLING
    down = ((np.arange(width) + 0.5) / width)[:, None]
    sky, ground = (np.array(draw_colour(hue, rng), float) for hue in (0.58, 0.25))
    rows = np.where(
        down < horizon, sky + (255 - sky) * 0.7 * down / horizon, ground * (1.25 - 0.5 * down)
    )
    canvas = Image.fromarray(np.repeat(rows.clip(0, 255).astype(np.uint8)[:, None], width, 1))
    brush = ImageDraw.Draw(canvas)
    for _ in range(3):
        for shape, low, high, colour in (
            ("disc", 0, horizon, sky * 0.6 + 102),
            ("dome", horizon, 1, ground * 0.7),
        ):
            size, centre = rng.uniform(0.04, 0.1), [rng.uniform(0, 1), rng.uniform(low, high)]
            corners = SHAPES[shape] * (size, -size / 2) + centre
            draw_polygon(brush, corners, tuple(int(channel) for channel in colour))
    return canvas
