"""The 15 common corruptions of Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261), in batches.

They follow ``make_cifar_c.py`` and ``make_imagenet_c.py`` (github.com/hendrycks/robustness) with
torch, for any image size and with private generators. Tried instead: ``imagecorruptions`` makes 13
of the 15 (``glass_blur`` and ``fog`` fail with scikit-image 0.26 and NumPy 2); its fork
``imagecorruptions-imaug`` makes all, one image at a time, with strengths for 224 px only, another
``elastic_transform``, and OpenCV, numba and scikit-image. The fork is the reference of the tests.
torchvision has Gaussian noise, Gaussian blur, JPEG and an elastic transform, with other parameters.
`sp_bench.corruptions.cifar_c` reads the authors' own files.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sp_bench.corruptions import blur, digital, noise, weather
from sp_bench.corruptions.severities import SEVERITIES, strength
from sp_plugin.isolation import make_generator

# From images (B, 3, S, S) in [0, 1], the strength c, the scale of lengths, and a generator.
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
CORRUPTIONS = {key: make for family in FAMILIES.values() for key, make in family.items()}
NAMES = tuple(CORRUPTIONS)
_BATCH = 128


def corrupt(images: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    """Corrupt square images; the result depends only on the arguments.

    Args:
        images: (N, 3, S, S), uint8.
        name: one of ``NAMES``.
        severity: 1 to 5.
        seed: seed of the random draws.

    Returns:
        (N, 3, S, S), uint8.

    Raises:
        KeyError: an unknown name.

    >>> corrupt(torch.full((2, 3, 32, 32), 100, dtype=torch.uint8), "brightness", 1)[0, 0, 0, 0]
    tensor(112, dtype=torch.uint8)
    """
    values, scale = strength(name, severity, images.shape[-1])
    key = NAMES.index(name) * len(SEVERITIES) + severity
    corrupted = []
    for index, batch in enumerate(torch.split(images, _BATCH)):
        generator = make_generator(seed, key, index)
        corrupted.append(
            _to_uint8(CORRUPTIONS[name](batch.float() / 255, values, scale, generator))
        )
    return torch.cat(corrupted)


def _to_uint8(images: Tensor) -> Tensor:
    # Truncated, not rounded, like the authors' np.uint8; the offset is for 99.99999, which is 100.
    return (images.clamp(0, 1) * 255 + 1e-3).to(torch.uint8)
