"""The demo's cue-conflict images: the outline of a part, filled with a pattern."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image

from sp_bench.data.dataset import ImageDataset, Splits
from sp_bench.data.scene import SIDE
from sp_bench.data.shapes import OUTLINES
from sp_bench.data.texture import look_up
from sp_bench.data.world import PART_NAMES

# Pattern of each part in the images that a probe is fitted on: strokes, marble, cobbles, bricks,
# weave and speckles.
_PATTERNS = (3, 6, 7, 9, 10, 11)
_ASPECTS = (0.6, 1.0, 1.0, 0.3, 1.0, 0.6)  # height / width of each part
_POST = 3
_KEY = 30_001
_TRAIN, _TEST = 600, 300


class DemoCues(ImageDataset):
    """Parts on plain ground, each filled with a pattern.

    Args:
        count: number of images; a multiple of 30 has every pair of classes equally often.
        conflict: whether the pattern belongs to another part than the outline.

    Attributes:
        labels: (N,) int64, class of the outline.
        textures: (N,) int64, class of the pattern.

    >>> cues = DemoCues(30, conflict=True)
    >>> bool((cues.labels != cues.textures).all()), cues.image(0).size
    (True, (96, 96))
    """

    classes: tuple[str, ...] = PART_NAMES

    def __init__(self, count: int, conflict: bool) -> None:
        kinds = len(PART_NAMES)
        index = torch.arange(count)
        self.labels = index % kinds
        step = 1 + (index // kinds) % (kinds - 1) if conflict else torch.zeros_like(index)
        self.textures = (self.labels + step) % kinds
        self._conflict = conflict

    def image(self, index: int) -> Image.Image:
        rng = np.random.default_rng((_KEY, int(self._conflict), index))
        shape, texture = int(self.labels[index]), int(self.textures[index])
        return Image.fromarray(_render_cue(shape, _PATTERNS[texture], rng))


def load_demo_cues() -> Splits:
    """Training images with the pattern of their outline's class, test images with another."""
    return Splits("demo cues", DemoCues(_TRAIN, conflict=False), DemoCues(_TEST, conflict=True))


def _render_cue(shape: int, pattern: int, rng: np.random.Generator) -> np.ndarray:
    a = SIDE * rng.uniform(0.26, 0.4)
    b = a * _ASPECTS[shape]
    if shape == _POST:  # a post is upright
        a, b = b, a
    turn = rng.uniform(-0.3, 0.3)
    x0, y0 = rng.uniform(0.42, 0.58, 2) * SIDE
    centres = np.arange(SIDE) + 0.5
    across, up = centres[None] - x0, y0 - centres[:, None]
    x = across * math.cos(turn) + up * math.sin(turn)
    y = -across * math.sin(turn) + up * math.cos(turn)
    cover = np.clip(0.5 - OUTLINES[shape + 1].distance(x, y, a, b), 0, 1)[..., None]
    v, u = rng.integers(0, 128, 2)
    texels = look_up(pattern, 0, np.broadcast_to(y + v, x.shape), x + u)[..., None]
    # Brightness and colours are independent of both classes.
    ground, colour = rng.uniform(0.25, 0.75, (2, 3))
    image = ground + cover * (colour * (1 + 0.35 * texels) - ground)
    noisy = image + rng.normal(0, 0.01, image.shape)
    return np.asarray(np.clip(noisy * 255 + 0.5, 0, 255).astype(np.uint8))
