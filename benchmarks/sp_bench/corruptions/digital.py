"""What is done to images after they were taken."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from sp_bench.corruptions.filters import blur


def contrast(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Each channel's distance from its mean, times c."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean) * c[0] + mean


def elastic(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Bent: an affine map whose three points move by c[2] at most, then c[0] times smooth noise.

    The noise is uniform in [-1, 1], blurred by c[1]. Lengths are in pixels.
    """
    b, _, side, _ = x.shape
    x = _warped(x, _affine_moves(b, side, c[2] * scale, rng))
    noise = 2 * torch.rand(b, 2, side, side, generator=rng) - 1
    return _warped(x, c[0] * scale * blur(noise, c[1] * scale).permute(0, 2, 3, 1))


def pixelate(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Made smaller by c and large again, without smoothing."""
    side, less = x.shape[-1], int(x.shape[-1] * c[0])
    # PIL's box filter, as the authors': torch's "area" blurs where the sides nearly agree.
    made = [
        to_pil_image(image)
        .resize((less, less), Image.Resampling.BOX)
        .resize((side, side), Image.Resampling.BOX)
        for image in (x * 255).round().to(torch.uint8)
    ]
    return torch.stack([pil_to_tensor(image) for image in made]) / 255


def jpeg(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Stored as JPEG of quality c and read again."""
    stored = [encode_jpeg(image, quality=int(c[0])) for image in (x * 255).round().to(torch.uint8)]
    return torch.stack([decode_jpeg(each, mode=ImageReadMode.RGB) for each in stored]) / 255


def _affine_moves(count: int, side: int, most: float, rng: torch.Generator) -> Tensor:
    """How far each pixel moves under a map that moves three points at random."""
    middle, arm = side // 2, side // 3
    points = torch.tensor(
        [[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]]
    ).float()
    moves = most * (2 * torch.rand(count, 3, 2, generator=rng) - 1)
    known = torch.cat([points, torch.ones(3, 1)], dim=1).expand(count, 3, 3)
    linear = torch.linalg.solve(known, moves)
    at = torch.arange(side).float()
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    everywhere = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    return torch.einsum("yxk,bkm->byxm", everywhere, linear)


def _warped(x: Tensor, moves: Tensor) -> Tensor:
    """Each pixel from where it is moved to, (B, S, S, 2) pixels right and down; edges reflect."""
    side = x.shape[-1]
    at = torch.arange(side).float()
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    places = torch.stack([columns, rows], dim=-1) + moves
    grid = (2 * places + 1) / side - 1
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
