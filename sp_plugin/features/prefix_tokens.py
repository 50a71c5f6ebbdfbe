"""Prefix tokens: how many tokens of a ViT stand before its patch tokens (class, registers ...).

A square number of patches is no proof: 9 tokens are 3 x 3 patches, or 4 registers, a class token
and 2 x 2 patches. So the number is read from the model and measured: by its patch embedding, or by
two input sizes.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from sp_plugin.sizes import Size, height_and_width

__all__ = ["count_patches", "declared_prefix", "declared_registers", "solve_prefix"]

# Parameters that are prefix tokens, (1, n, D): of timm, torchvision, DINOv2 and Hugging Face.
_REGISTERS = ("reg_token", "reg_tokens", "register_token", "register_tokens")
_OTHERS = ("cls_token", "class_token", "dist_token", "distillation_token")


def declared_prefix(backbone: nn.Module) -> int | None:
    """Number of prefix tokens by the model's own account; None: it has no such attribute.

    It may not hold for the output of an inner layer, where the tokens are not prepended yet.

    >>> vit = nn.Module()
    >>> vit.num_prefix_tokens = 5
    >>> declared_prefix(nn.Sequential(vit)), declared_prefix(nn.Conv2d(3, 8, 3))
    (5, None)
    """
    number = _first_int(backbone, "num_prefix_tokens")
    if number is not None:
        return number
    registers = declared_registers(backbone)
    others = _count_tokens(backbone, _OTHERS)
    return registers + others if registers + others else None


def declared_registers(backbone: nn.Module) -> int:
    """Number of register tokens by the model's attributes, its config or its parameters."""
    for part in backbone.modules():
        number = getattr(getattr(part, "config", None), "num_register_tokens", None)
        if isinstance(number, int):
            return number
    return _count_tokens(backbone, _REGISTERS)


def _first_int(backbone: nn.Module, name: str) -> int | None:
    values = (getattr(part, name, None) for part in backbone.modules())
    return next((value for value in values if isinstance(value, int)), None)


def _count_tokens(backbone: nn.Module, names: tuple[str, ...]) -> int:
    """Number of tokens in the parameters of these names, of the first part that has any."""
    for part in backbone.modules():
        tokens: list[Any] = [getattr(part, name, None) for name in names]
        found = [token for token in tokens if isinstance(token, Tensor) and token.ndim > 1]
        if found:
            return sum(token.shape[-2] for token in found)
    return 0


def count_patches(backbone: nn.Module, size: Size, channels: int) -> int | None:
    """Number of patches that the patch embedding cuts from an image of ``size`` px.

    Args:
        backbone: any module.
        size: of the images in pixels: the side of a square, or height and width.
        channels: number of channels of the images.

    Returns:
        None: there is no patch embedding (a convolution of the images whose kernel is its stride),
        or several.

    >>> count_patches(nn.Conv2d(3, 8, kernel_size=16, stride=16), 64, 3)
    16
    """
    height, width = height_and_width(size)
    strides = {
        part.stride
        for part in backbone.modules()
        if isinstance(part, nn.Conv2d)
        and part.in_channels == channels
        and part.stride == part.kernel_size
        and min(part.stride) > 1
    }
    if len(strides) != 1:
        return None
    rows, columns = strides.pop()
    return (height // rows) * (width // columns)


def solve_prefix(count: int, count_of_double: int) -> int | None:
    """Number of prefix tokens by the token counts for an image and for one of twice its side.

    With g x g patches of the first image, the second has 2g x 2g, or 2g + 1 where the side is no
    multiple of the patch's.

    Returns:
        None: no number of prefix tokens explains both counts, as with a model that resizes its
        images itself (timm's CrossViT).

    >>> solve_prefix(5 + 4, 5 + 16), solve_prefix(9, 36), solve_prefix(9, 9)
    (5, 0, None)
    """
    grids = range(1, math.isqrt(count) + 1)
    for extra in (0, 1):
        for grid in grids:
            if count_of_double - count == (2 * grid + extra) ** 2 - grid**2:
                return count - grid**2
    return None
