"""Rendering of a scene: image, part mask and depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sp_bench.data.backdrop import cast_shadow, draw_backdrop
from sp_bench.data.scene import FOCAL, SIDE, Scene, Shape
from sp_bench.data.shapes import OUTLINES
from sp_bench.data.texture import look_up

_RIM = 4  # pixels around a shape that are darkened a little, as at a contact
_BULGE = 0.5  # relief of a part towards the viewer, as a fraction of its lesser half size
_AMBIENT, _LAMP, _GLOSS = 0.5, 0.62, 0.25


@dataclass(frozen=True)
class RenderedScene:
    """Image, part mask and depth of a scene.

    Attributes:
        image: (SIDE, SIDE, 3) uint8, RGB.
        part_mask: (SIDE, SIDE) uint8, kind of the visible part of the toy, 0 for none.
        depth: (SIDE, SIDE) float32, distance of the visible surface in metres.
    """

    image: np.ndarray
    part_mask: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class _Cutout:
    """Coverage and surface of a shape in its own window of the image."""

    shape: Shape
    window: tuple[slice, slice]
    cover: np.ndarray  # (h, w), in [0, 1]
    rim: np.ndarray  # (h, w), 1 inside and at the outline, falling to 0 outside
    normal: tuple[np.ndarray, np.ndarray, np.ndarray]  # right, up, to the viewer, each (h, w)
    x: np.ndarray  # (h, w), offset from the centre of the shape along its own axes, in pixels
    y: np.ndarray


def render_scene(scene: Scene) -> RenderedScene:
    """Render a scene; image, part mask and depth agree pixel by pixel.

    Args:
        scene: scene to render.

    >>> from sp_bench.data.staging import stage
    >>> from sp_bench.data.world import TOYS
    >>> rendered = render_scene(stage(TOYS[0].build(0), np.random.default_rng(0)))
    >>> rendered.image.shape, sorted(set(rendered.part_mask.ravel().tolist()))
    ((96, 96, 3), [0, 1, 2, 3])
    """
    colours, depth = draw_backdrop(scene)
    part_mask = np.zeros((SIDE, SIDE), np.uint8)
    things = [(thing, [_cut_out(shape) for shape in thing.shapes]) for thing in scene.things]
    for thing, cutouts in things:  # all shadows first: they lie on the ground, below all shapes
        if thing.shadow:
            cast_shadow(scene, thing, _silhouette(cutouts), colours)
    for _, cutouts in things:
        for cutout in cutouts:
            _paint(cutout, scene.light, colours)
            _write_mask_and_depth(cutout, part_mask, depth)
    return RenderedScene(_photograph(scene, colours), part_mask, depth)


def _cut_out(shape: Shape) -> _Cutout:
    across, down = shape.reach
    top, bottom = _span(shape.y, down)
    left, right = _span(shape.x, across)
    # One more pixel on each side, for the slopes.
    row = np.arange(top - 1, bottom + 1, dtype=np.float32)[:, None] + (0.5 - shape.y)
    column = np.arange(left - 1, right + 1, dtype=np.float32)[None] + (0.5 - shape.x)
    sin, cos = math.sin(shape.turn), math.cos(shape.turn)
    x, y = column * cos - row * sin, -column * sin - row * cos
    outline = OUTLINES[shape.kind]
    distance = outline.distance(x, y, shape.a, shape.b)
    inner = distance[1:-1, 1:-1]
    slope_right = (distance[1:-1, 2:] - distance[1:-1, :-2]) / 2
    slope_up = (distance[:-2, 1:-1] - distance[2:, 1:-1]) / 2
    tilt = _unit(1 + inner / (outline.bevel * min(shape.a, shape.b)))
    facing = np.sqrt(1 - tilt**2 * 0.96)
    return _Cutout(
        shape,
        (slice(top, bottom), slice(left, right)),
        _unit(0.5 - inner),
        _unit(1 - inner / _RIM),
        (slope_right * tilt, slope_up * tilt, facing),
        x[1:-1, 1:-1],
        y[1:-1, 1:-1],
    )


def _unit(values: np.ndarray) -> np.ndarray:
    # Faster on these small patches than np.clip.
    return np.asarray(np.minimum(np.maximum(values, 0), 1))


def _span(centre: float, reach: float) -> tuple[int, int]:
    """Range of rows or columns that a shape touches; empty if it is outside the image."""
    low = min(max(math.floor(centre - reach) - _RIM, 0), SIDE)
    high = min(max(math.ceil(centre + reach) + _RIM, low), SIDE)
    return low, high


def _silhouette(cutouts: list[_Cutout]) -> np.ndarray:
    cover = np.zeros((SIDE, SIDE), np.float32)
    for cutout in cutouts:
        np.maximum(cover[cutout.window], cutout.cover, out=cover[cutout.window])
    return cover


def _paint(cutout: _Cutout, light: tuple[float, float, float], colours: np.ndarray) -> None:
    patch = colours[cutout.window]
    patch *= (1 - 0.3 * cutout.rim)[..., None]
    right, up, near = cutout.normal
    lit = np.maximum(right * light[0] + up * light[1] + near * light[2], 0)
    fourth = (lit * lit) ** 2
    gloss = _GLOSS * (fourth * fourth) ** 2  # repeated squares are much faster than a high power
    shade = (_AMBIENT + _LAMP * lit) * (1 + _surface(cutout))
    colour = shade[..., None] * np.asarray(cutout.shape.material.colour, np.float32)
    patch += cutout.cover[..., None] * (colour + gloss[..., None] - patch)


def _surface(cutout: _Cutout) -> np.ndarray:
    material, z = cutout.shape.material, cutout.shape.z
    texels = material.scale * z / FOCAL
    sin, cos = math.sin(material.turn) * texels, math.cos(material.turn) * texels
    v = cutout.x * sin + cutout.y * cos + material.origin[0]
    u = cutout.x * cos - cutout.y * sin + material.origin[1]
    return np.asarray(material.contrast * look_up(material.pattern, 0, v, u))


def _write_mask_and_depth(cutout: _Cutout, part_mask: np.ndarray, depth: np.ndarray) -> None:
    shape = cutout.shape
    visible = cutout.cover > 0.5
    bulge = cutout.normal[2] * (_BULGE * min(shape.a, shape.b) * shape.z / FOCAL)
    part_mask[cutout.window][visible] = shape.part
    depth[cutout.window][visible] = (shape.z - bulge)[visible]


def _photograph(scene: Scene, colours: np.ndarray) -> np.ndarray:
    """8-bit image of the colours, with the camera's blur, gain and noise."""
    _blur(colours, scene.blur)
    _blur(colours.swapaxes(0, 1), scene.blur)
    noise = np.random.default_rng(scene.noise_key).standard_normal(colours.shape, np.float32)
    pixels = colours * np.asarray(scene.gain, np.float32) + scene.noise * noise
    return np.asarray(np.clip(pixels * 255 + 0.5, 0, 255).astype(np.uint8))


def _blur(colours: np.ndarray, share: float) -> None:
    """Move a share of each row's light to both neighbours, in place; the sum is unchanged."""
    step = share * np.diff(colours, axis=0)
    colours[:-1] += step
    colours[1:] -= step
