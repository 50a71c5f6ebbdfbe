"""The 15 common corruptions of Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261), batchwise.

No library fits: ``imagecorruptions`` (2020) fails on NumPy 2, and its fork asks for OpenCV, numba
and scikit-image, makes one image at a time and has the strengths for 224 px only. So they are
made here, by torch and torchvision, from the formulas of the authors' ``make_cifar_c.py`` and
``make_imagenet_c.py`` (github.com/hendrycks/robustness). What differs from those files stands with
each corruption. Figures compare with each other, not with published ones of CIFAR-10-C or
ImageNet-C, whose files :mod:`sp_bench.corruptions.cifar_c` reads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sp_bench.corruptions import blur, digital, noise, weather
from sp_bench.corruptions.severities import SEVERITIES, strength
from sp_plugin.isolation import make_generator

Corruption = Callable[[Tensor, tuple[float, ...], float, torch.Generator], Tensor]

FAMILIES: dict[str, dict[str, Corruption]] = {
    "noise": {
        "gaussian_noise": noise.gaussian,
        "shot_noise": noise.shot,
        "impulse_noise": noise.impulse,
    },
    "blur": {
        "defocus_blur": blur.defocus,
        "glass_blur": blur.glass,
        "motion_blur": blur.motion,
        "zoom_blur": blur.zoom,
    },
    "weather": {
        "snow": weather.snow,
        "frost": weather.frost,
        "fog": weather.fog,
        "brightness": weather.brightness,
    },
    "digital": {
        "contrast": digital.contrast,
        "elastic_transform": digital.elastic,
        "pixelate": digital.pixelate,
        "jpeg_compression": digital.jpeg,
    },
}
CORRUPTIONS = {name: make for family in FAMILIES.values() for name, make in family.items()}
NAMES = tuple(CORRUPTIONS)
_BATCH = 128


def corrupt(images: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    """Corrupt square images, the same for the same images, order and seed.

    Args:
        images: (N, 3, S, S), uint8.
        name: one of ``NAMES``.
        severity: 1 to 5.
        seed: of what is drawn.

    Returns:
        (N, 3, S, S), uint8.

    Raises:
        KeyError: no such corruption.

    >>> corrupt(torch.full((2, 3, 32, 32), 100, dtype=torch.uint8), "brightness", 1)[0, 0, 0, 0]
    tensor(112, dtype=torch.uint8)
    """
    values, scale = strength(name, severity, images.shape[-1])
    key = NAMES.index(name) * len(SEVERITIES) + severity
    parts = [
        _eight_bits(
            CORRUPTIONS[name](batch.float() / 255, values, scale, make_generator(seed, key, place))
        )
        for place, batch in enumerate(torch.split(images, _BATCH))
    ]
    return torch.cat(parts)


def _eight_bits(images: Tensor) -> Tensor:
    # Cut, not rounded, as the authors' np.uint8 does; a little more, for 99.99999 is 100.
    return (images.clamp(0, 1) * 255 + 1e-3).to(torch.uint8)
