"""Seamless patterns with the spectra of natural surfaces, generated once and looked up."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

SIDE = 128  # texels; a power of two, so that wrapping around is a bit mask
LEVELS = 5  # each twice as blurred as the one before, for distant surfaces
FRACTALS = (0, 1, 2)  # patterns of plain fractal noise, used for clouds
_KEY = 20_001  # the same patterns for every seed of the demo


@lru_cache(maxsize=1)
def patterns() -> np.ndarray:
    """All patterns at all blur levels.

    Returns:
        (P, LEVELS, SIDE, SIDE) float32, read-only; at level 0 with mean 0 and standard deviation
        1, clipped at -2.5 and 2.5. They repeat without a seam.

    >>> patterns().shape[1:], abs(float(patterns()[0, 0].mean())) < 0.1
    ((5, 128, 128), True)
    """
    rng = np.random.default_rng(_KEY)
    raw = [
        _fractal(rng, 0.9),
        _fractal(rng, 1.3),
        _fractal(rng, 1.7),
        _fractal(rng, 1.2, stretch=6.0),
        _fractal(rng, 1.6, stretch=3.0),
        _marble(rng, waves=3),
        _marble(rng, waves=6),
        _cells(rng, count=60),
        _cells(rng, count=200),
        _bricks(rng, rows=8),
        _weave(rng, threads=12),
        _speckle(rng, count=250),
    ]
    sharp = np.stack([np.clip(_standardize(pattern), -2.5, 2.5) for pattern in raw])
    blurred = [gaussian_filter(sharp, (0, s, s), mode="wrap") for s in 2.0 ** np.arange(LEVELS - 1)]
    bank = np.stack([sharp, *blurred], axis=1).astype(np.float32)
    bank.setflags(write=False)
    return bank


def look_up(pattern: int, level: int | np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Values of a pattern at any texels, which wrap around.

    Args:
        pattern: index of the pattern.
        level: blur level in ``[0, LEVELS)``; broadcasts against the texels.
        v: rows of the texels, any numbers; rounded down.
        u: columns of the texels, any numbers; rounded down.

    Returns:
        float32, in the common shape of the texels.

    >>> here, there = look_up(0, 0, np.array([3.0, 3.0 + SIDE]), np.array([5.5, 5.5]))
    >>> bool(here == there)
    True
    """
    rows, columns = np.floor(v).astype(np.int64), np.floor(u).astype(np.int64)
    texels = patterns()[pattern, level, rows & (SIDE - 1), columns & (SIDE - 1)]
    return np.asarray(texels)


def _standardize(pattern: np.ndarray) -> np.ndarray:
    return np.asarray((pattern - pattern.mean()) / pattern.std())


def _fractal(rng: np.random.Generator, power: float, stretch: float = 1.0) -> np.ndarray:
    """Noise whose amplitude falls as 1 / frequency ** power."""
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    frequency = np.hypot(rows * stretch, columns / stretch)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / frequency**power
    return _standardize(np.fft.irfft2(spectrum, s=(SIDE, SIDE)))


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    return y, x


def _marble(rng: np.random.Generator, waves: int) -> np.ndarray:
    y, x = _grid()
    veins = np.sin(2 * np.pi * (waves * x + y) + 1.2 * _fractal(rng, 1.7))
    return np.asarray(veins + 0.3 * _fractal(rng, 1.0))


def _cells(rng: np.random.Generator, count: int) -> np.ndarray:
    """Cobbles: distance to the nearest border between random points."""
    y, x = _grid()
    nearest, _ = cKDTree(rng.random((count, 2)), boxsize=1).query(np.stack([y, x], -1), k=2)
    border = np.clip((nearest[..., 1] - nearest[..., 0]) * np.sqrt(count), 0, 0.5)
    return np.asarray(_standardize(border) + 0.4 * _fractal(rng, 1.0))


def _bricks(rng: np.random.Generator, rows: int) -> np.ndarray:
    y, x = _grid()
    row = np.floor(y * rows)
    across = (x * rows / 2 + 0.5 * (row % 2)) % 1
    joint = (np.minimum(y * rows % 1, 2 * across) < 0.16).astype(float)
    return np.asarray(-_standardize(joint) + 0.5 * _fractal(rng, 1.0))


def _weave(rng: np.random.Generator, threads: int) -> np.ndarray:
    y, x = _grid()
    over = np.sin(2 * np.pi * threads * x) * np.sin(2 * np.pi * threads * y)
    return np.asarray(over + 0.3 * _fractal(rng, 1.2))


def _speckle(rng: np.random.Generator, count: int) -> np.ndarray:
    y, x = _grid()
    distance, _ = cKDTree(rng.random((count, 2)), boxsize=1).query(np.stack([y, x], -1))
    return np.asarray(_standardize((distance < 0.018).astype(float)) + 0.5 * _fractal(rng, 1.3))
