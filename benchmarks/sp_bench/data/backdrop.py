"""Backdrop of a scene: ground, sky or wall, hills, and the shadows on the ground."""

from __future__ import annotations

import math

import numpy as np

from sp_bench.data.scene import FOCAL, HILLS, SIDE, Material, Scene, Thing
from sp_bench.data.texture import LEVELS, look_up

_CENTRES = (np.arange(SIDE) + 0.5).astype(np.float32)  # of the pixels
_ACROSS = _CENTRES - SIDE / 2
_SHADOW = 0.5  # fraction of the light that a shadow takes


def draw_backdrop(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Render the backdrop.

    Args:
        scene: scene to render.

    Returns:
        Colours, (SIDE, SIDE, 3) float32 with a full range of 1; and distances, (SIDE, SIDE)
        float32 in metres.
    """
    end = int(np.searchsorted(_CENTRES, scene.ground_end))
    colours = np.empty((SIDE, SIDE, 3), np.float32)
    depth = np.empty((SIDE, SIDE), np.float32)
    colours[:end] = _back(scene, end)
    depth[:end] = scene.back_z
    if scene.hills:
        _add_hills(scene, colours, depth, end)
    z = ground_distance(scene, end)
    colours[end:] = _ground(scene, z)
    depth[end:] = z
    # Brighter on the side of the light.
    colours *= (1 + 0.15 * scene.light[0] * _ACROSS / (SIDE / 2))[:, None]
    return colours, depth


def ground_distance(scene: Scene, end: int) -> np.ndarray:
    """Distance of the ground in each row from ``end`` on, (SIDE - end, 1), in metres."""
    return np.asarray(FOCAL * scene.height / (_CENTRES[end:, None] - scene.horizon))


def cast_shadow(scene: Scene, thing: Thing, silhouette: np.ndarray, colours: np.ndarray) -> None:
    """Darken the ground in the shadow of a thing, in place.

    The ray from a point of the ground to the light meets the upright plane of the thing; there the
    silhouette is looked up.

    Args:
        scene: scene that contains the thing.
        thing: thing that casts the shadow.
        silhouette: (SIDE, SIDE) float32, fraction of each pixel that the thing covers.
        colours: (SIDE, SIDE, 3) float32, changed in place.
    """
    right, up, near = scene.light
    end = int(np.searchsorted(_CENTRES, scene.ground_end))
    z = ground_distance(scene, end)
    rise = (z - thing.z) * (up / near)
    rows = thing.foot - rise * (FOCAL / thing.z)
    columns = SIDE / 2 + (_ACROSS * (z / FOCAL) + rise * (right / up)) * (FOCAL / thing.z)
    meets = (rise > 0) & (rows >= 0) & (columns >= 0) & (columns < SIDE)
    safe_rows = np.clip(rows, 0, SIDE - 1).astype(np.int64)
    safe_columns = np.clip(columns, 0, SIDE - 1).astype(np.int64)
    cover = silhouette[safe_rows, safe_columns] * meets
    colours[end:] *= 1 - (_SHADOW * cover)[..., None]


def _ground(scene: Scene, z: np.ndarray) -> np.ndarray:
    ground = scene.ground
    sin, cos = math.sin(ground.turn), math.cos(ground.turn)
    right, away = _ACROSS * (z / FOCAL) * ground.scale, z * ground.scale
    v, u = right * sin + away * cos + ground.origin[0], right * cos - away * sin + ground.origin[1]
    # Texels per pixel: by its width, and by its depth along the ground.
    texels = ground.scale * z * np.sqrt(z / scene.height) / FOCAL
    pattern = look_up(ground.pattern, _level(texels), v, u)
    colour = np.asarray(ground.colour, np.float32) * (1 + ground.contrast * pattern)[..., None]
    haze = np.minimum(0.6, z / 50)[..., None]
    return np.asarray(colour + haze * (np.asarray(scene.back_low, np.float32) - colour))


def _back(scene: Scene, end: int) -> np.ndarray:
    high, low = np.asarray(scene.back.colour, np.float32), np.asarray(scene.back_low, np.float32)
    down = (_CENTRES[:end] / max(scene.ground_end, 1.0))[:, None, None]
    pattern = _upright_pattern(scene.back, scene.back_z, _CENTRES[:end, None] - scene.horizon)
    return np.asarray((high + down * (low - high)) * (1 + scene.back.contrast * pattern)[..., None])


def _upright_pattern(material: Material, z: float, rows: np.ndarray) -> np.ndarray:
    texels = material.scale * z / FOCAL
    v, u = rows * texels + material.origin[0], _ACROSS * texels + material.origin[1]
    v, u = np.broadcast_arrays(v, u)
    return look_up(material.pattern, int(_level(np.asarray(texels))), v, u)


def _add_hills(scene: Scene, colours: np.ndarray, depth: np.ndarray, end: int) -> None:
    along = _ACROSS * 0.6 + scene.back.origin[0]
    ridge = look_up(2, 2, np.full(SIDE, scene.back.origin[1]), along)
    top = scene.ground_end - scene.hills * (1 + 0.6 * ridge)
    covered = _CENTRES[:end, None] > top
    low, ground = (np.asarray(c, np.float32) for c in (scene.back_low, scene.ground.colour))
    colours[:end][covered] = 0.45 * low + 0.45 * ground
    depth[:end][covered] = HILLS


def _level(texels: np.ndarray) -> np.ndarray:
    """Blur level of a pattern for a number of texels per pixel."""
    level = np.log2(np.maximum(texels, 1e-6)) + 1
    return np.asarray(np.clip(level, 0, LEVELS - 1).astype(np.int64))
