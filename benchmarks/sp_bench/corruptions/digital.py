"""Digital corruptions. Arguments and result are those of `sp_bench.corruptions.Corruption`."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from sp_bench.corruptions.filters import blur


def contrast(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Lower contrast: the difference of each channel from its mean, times c[0]."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean) * c[0] + mean


def elastic(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Elastic: an affine map that moves three points by at most c[2], then c[0] times smooth noise.

    The noise is uniform in [-1, 1], blurred by c[1]. Lengths are in pixels.
    """
    b, _, side, _ = x.shape
    x = _warp(x, _affine_shifts(b, side, c[2] * scale, rng))
    noise = 2 * torch.rand(b, 2, side, side, generator=rng) - 1
    noise = blur(noise, c[1] * scale, mode="symmetric", truncate=3)
    return _warp(x, c[0] * scale * noise.permute(0, 2, 3, 1))


def pixelate(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Resize to a fraction c[0] and back, without smoothing."""
    side, small = x.shape[-1], int(x.shape[-1] * c[0])
    # PIL's box filter, as in the authors' file: torch's "area" blurs if the sides nearly agree.
    resized = [
        to_pil_image(image)
        .resize((small, small), Image.Resampling.BOX)
        .resize((side, side), Image.Resampling.BOX)
        for image in (x * 255).round().to(torch.uint8)
    ]
    return torch.stack([pil_to_tensor(image) for image in resized]) / 255


def jpeg(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """JPEG compression of quality c[0]."""
    files = [encode_jpeg(image, quality=int(c[0])) for image in (x * 255).round().to(torch.uint8)]
    return torch.stack([decode_jpeg(file, mode=ImageReadMode.RGB) for file in files]) / 255


def _affine_shifts(count: int, side: int, max_shift: float, rng: torch.Generator) -> Tensor:
    """Shift of each pixel, (count, S, S, 2), under an affine map that moves three points."""
    middle, arm = side // 2, side // 3
    points = torch.tensor(
        [[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]]
    ).float()
    shifts = max_shift * (2 * torch.rand(count, 3, 2, generator=rng) - 1)
    homogeneous = torch.cat([points, torch.ones(3, 1)], dim=1).expand(count, 3, 3)
    affine = torch.linalg.solve(homogeneous, shifts)
    pixels = torch.cat([_pixel_grid(side), torch.ones(side, side, 1)], dim=-1)
    return torch.einsum("yxk,bkm->byxm", pixels, affine)


def _warp(x: Tensor, shifts: Tensor) -> Tensor:
    """Each pixel from its shifted position, (B, S, S, 2) pixels right and down; edges reflect."""
    side = x.shape[-1]
    grid = (2 * (_pixel_grid(side) + shifts) + 1) / side - 1
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _pixel_grid(side: int) -> Tensor:
    """Column and row of each pixel, (S, S, 2)."""
    pixels = torch.arange(side).float()
    rows, columns = torch.meshgrid(pixels, pixels, indexing="ij")
    return torch.stack([columns, rows], dim=-1)
