"""Patches of a jigsaw: cut out of a grid with gaps between them, and assembled again."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.channel_stats import to_unit
from sp_bench.data.dataset import ImageDataset
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks.task import EVALUATION_SEED
from sp_plugin import crop_resize
from sp_plugin.isolation import make_generator

# Of a cell's side. If patches touched, their edges would reveal neighbours. Noroozi and Favaro
# (ECCV 2016, section 3.2) take 64 px of 75, at a random position in the cell, as here.
_PATCH = 64 / 75


def patch_boxes(num_images: int, n: int, part: int) -> Tensor:
    """Boxes of the patches: one at a random position in each cell of an n x n grid.

    Args:
        num_images: number of images.
        n: cells per row and column.
        part: 0 for the images to fit on, 1 for those to score on; seeds the draw.

    Returns:
        (num_images, n * n, 4), (cx, cy, w, h) as fractions of the image, row by row.

    >>> boxes = patch_boxes(num_images=5, n=2, part=0)
    >>> boxes.shape, bool((boxes[:, 0, :2] < 0.5).all())
    (torch.Size([5, 4, 4]), True)
    """
    room = (1 - _PATCH) / n
    shift = torch.rand(num_images, n * n, 2, generator=make_generator(EVALUATION_SEED, n, part))
    rows, columns = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    corner = torch.stack([columns, rows], dim=-1).view(-1, 2) / n
    side = torch.full((num_images, n * n, 2), _PATCH / n)
    return torch.cat([corner + shift * room + side / 2, side], dim=-1)


def extract_patch_features(
    backbone: FrozenBackbone, dataset: ImageDataset, indices: Tensor, n: int, part: int
) -> Tensor:
    """Features of the patches of a subset of images.

    Args:
        backbone: backbone; patches are resized to its ``crop_size``.
        dataset: whole data set.
        indices: (m,) positions of the images.
        n: cells per row and column.
        part: as for `patch_boxes`.

    Returns:
        (m, n * n, D), float32, on the CPU, row by row.
    """
    boxes = patch_boxes(len(indices), n, part)
    images = backbone.images(dataset)
    features = []
    for rows in torch.split(torch.arange(len(indices)), max(1, backbone.batch_size // n**2)):
        batch = to_unit(images[indices[rows]].to(backbone.device))
        patches = crop_resize(
            batch.repeat_interleave(n * n, dim=0), boxes[rows].flatten(0, 1), backbone.crop_size
        )
        features.append(backbone.extract(patches).unflatten(0, (len(rows), n * n)))
    return torch.cat(features)


def assemble(images: Tensor, boxes: Tensor, patches: Tensor) -> Tensor:
    """Images assembled from their patches, each enlarged to its cell, so that no gap is visible.

    Args:
        images: (m, C, S, S), uint8 or float, that the patches are cut out of.
        boxes: (m, n * n, 4), boxes of the patches.
        patches: (m, n * n), index of the patch in each cell, row by row.

    Returns:
        (m, C, S, S), of the dtype of ``images``.
    """
    (m, count), channels = patches.shape, images.shape[1]
    n, side = round(count**0.5), images.shape[-1]
    cell = -(-side // n)
    ordered = boxes.gather(1, patches.unsqueeze(-1).expand(-1, -1, 4)).flatten(0, 1)
    pixels = crop_resize(to_unit(images).repeat_interleave(count, dim=0), ordered, cell)
    grid = pixels.view(m, n, n, channels, cell, cell).permute(0, 3, 1, 4, 2, 5)
    whole = grid.reshape(m, channels, n * cell, n * cell)
    if n * cell != side:
        whole = image_ops.resize(whole, [side, side], antialias=True)
    if images.dtype != torch.uint8:
        return whole
    return (whole * 255).round().clamp(0, 255).to(torch.uint8)
