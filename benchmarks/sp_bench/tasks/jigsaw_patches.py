"""Patches of a jigsaw: cut from a grid with a gap between them, and put together again."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.dataset import ImageDataset
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks import EVALUATION_SEED
from sp_plugin import crop_resize
from sp_plugin.isolation import make_generator

# Of a cell's side: with edges that touch, a seam that fits would tell the neighbour. Noroozi and
# Favaro (ECCV 2016, section 3.2) leave 64 px of 75, placed at random in the cell, as here.
_PATCH = 64 / 75


def patch_boxes(images: int, n: int, part: int) -> Tensor:
    """Where the patches lie: one in each cell of an n x n grid, at random in its cell.

    Args:
        images: how many.
        n: cells across and down.
        part: 0 to fit on, 1 to score on.

    Returns:
        (images, n * n, 4), boxes as fractions of the image, row by row.

    >>> boxes = patch_boxes(images=5, n=2, part=0)
    >>> boxes.shape, bool((boxes[:, 0, :2] < 0.5).all())
    (torch.Size([5, 4, 4]), True)
    """
    room = (1 - _PATCH) / n
    shift = torch.rand(images, n * n, 2, generator=make_generator(EVALUATION_SEED, n, part))
    rows, columns = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    corner = torch.stack([columns, rows], dim=-1).view(-1, 2) / n
    side = torch.full((images, n * n, 2), _PATCH / n)
    return torch.cat([corner + shift * room + side / 2, side], dim=-1)


def encode_patches(
    backbone: FrozenBackbone, images: ImageDataset, few: Tensor, n: int, part: int
) -> Tensor:
    """Features of the patches of some images.

    Args:
        backbone: to ask; patches are resized to its ``crop``.
        images: the set.
        few: (m,) which of them.
        n: cells across and down.
        part: 0 to fit on, 1 to score on.

    Returns:
        (m, n * n, D), float32, on the CPU, row by row.
    """
    boxes = patch_boxes(len(few), n, part)
    shown = backbone.images(images)
    features = []
    for rows in torch.split(torch.arange(len(few)), max(1, backbone.batch_size // n**2)):
        frames = shown[few[rows]].to(backbone.device).float() / 255
        patches = crop_resize(
            frames.repeat_interleave(n * n, dim=0), boxes[rows].flatten(0, 1), backbone.crop
        )
        features.append(backbone.encode(patches).unflatten(0, (len(rows), n * n)))
    return torch.cat(features)


def assemble(frames: Tensor, boxes: Tensor, places: Tensor) -> Tensor:
    """Images put together from their patches, each as large as a cell: no gap is left to see.

    Args:
        frames: (m, 3, S, S), uint8, which the patches are cut from.
        boxes: (m, n * n, 4), of the patches.
        places: (m, n * n), which patch lies in each cell, row by row.

    Returns:
        (m, 3, S, S), uint8.
    """
    m, count = places.shape
    n, side = round(count**0.5), frames.shape[-1]
    cell = -(-side // n)
    ordered = boxes.gather(1, places.unsqueeze(-1).expand(-1, -1, 4)).flatten(0, 1)
    patches = crop_resize((frames.float() / 255).repeat_interleave(count, dim=0), ordered, cell)
    grid = patches.view(m, n, n, 3, cell, cell).permute(0, 3, 1, 4, 2, 5)
    whole = grid.reshape(m, 3, n * cell, n * cell)
    if n * cell != side:
        whole = image_ops.resize(whole, [side, side], antialias=True)
    return (whole * 255).round().clamp(0, 255).to(torch.uint8)
