"""Correspondence: does the same place get the same feature, without labels and without a probe.

A point's feature in image a is compared, by cosine, with all places of image b; the nearest one is
right if it lies within a tenth of the image's side (PCK@0.1, percentage of correct keypoints).
Images a and b are two crops of one image with their own colours and flip, so that the truth is
known; or the pairs of SPair-71k (arXiv 1908.10543), in which the tenth is that of the larger side
of the object's box, with PCK over all points and as the mean over pairs, as there.

Controls: a random backbone; a random place; the point's own position, which is what a feature map
can tell by the image's border alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.channel_stats import to_tensor, to_unit
from sp_bench.data.image_kind import convert_channels
from sp_bench.data.point_pairs import PointPairs, SPairImages, load_point_pairs
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.results import MetricSpec
from sp_bench.tasks.dense_features import find_map_layer
from sp_bench.tasks.task import (
    EVALUATION_SEED,
    SPATIAL,
    Task,
    TaskContext,
    percent_control,
    subsample,
)
from sp_plugin import crop_resize
from sp_plugin.crops.batch_colors import recolor
from sp_plugin.crops.boxes import cxcywh_to_xyxy
from sp_plugin.crops.sampler import CropSampler, rand_cpu
from sp_plugin.isolation import make_generator

ALPHA = 0.1
# 500 views and 4,000 points: at 64 px a small backbone takes seconds.
_MAX_IMAGES, _POINTS = 250, 16
_BATCH = 64  # images, or points
# Two crops of so large a part of an image always overlap.
_SAMPLER = CropSampler(crop_scale=(0.4, 1.0), window=(1.0, 1.0), max_iou=1.0, tries=1)
_BOXES, _COLORS = 2, 3  # keys of generators
# Maps are upsampled to this side: 7 x 7 places are too coarse for a tenth of the side.
_GRID = 32
_TIE = 1e-6  # of a cosine: rounding

Pixels = Callable[[Tensor], Tensor]  # from indices to images (N, C, S, S)


def run(context: TaskContext) -> dict[str, float]:
    """PCK of the backbone on the test images, and of its controls."""
    backbone, images = context.backbone, context.splits.test
    if isinstance(images, SPairImages):
        pairs, count = images.pairs, len(images)

        def pixels(rows: Tensor) -> Tensor:
            return _squares(images, rows, backbone)

    else:
        squares = backbone.images(images)[subsample(len(images), _MAX_IMAGES)]
        boxes, flips, pairs = sample_views(len(squares))
        count = 2 * len(squares)

        def pixels(rows: Tensor) -> Tensor:
            return make_views(squares, boxes, flips, rows)

    correct, chance = match_points(_maps(backbone, pixels, count), pairs)
    random, _ = context.untrained.cached(
        images,
        "correspondence",
        lambda: match_points(_maps(context.untrained, pixels, count), pairs),
    )
    unmoved = _distance(pairs.points[0], pairs.points[1], pairs.frame) <= ALPHA
    return {
        "correspondence_pck": float(correct.mean()),
        "correspondence_pck_image": mean_over_pairs(correct, pairs.pair),
        "correspondence_pck_random": float(random.mean()),
        "correspondence_pck_position": float(unmoved.float().mean()),
        "correspondence_pck_chance": float(chance.mean()),
    }


def sample_views(count: int) -> tuple[Tensor, Tensor, PointPairs]:
    """Two crops of each image, half of the second ones mirrored, and points that both show.

    Image i has the views 2i and 2i + 1.

    Args:
        count: number of images N.

    Returns:
        Boxes (2N, 4) of the views, (cx, cy, w, h) as fractions of the image; flips (2N,), bool; and
        the points.
    """
    generator = make_generator(EVALUATION_SEED, _BOXES)
    boxes = _SAMPLER(count, generator)
    flips = torch.stack([torch.zeros(count), rand_cpu(count, generator=generator) < 0.5]).bool()
    corners = cxcywh_to_xyxy(boxes)
    low, high = corners[..., :2].amax(dim=0), corners[..., 2:].amin(dim=0)
    shares = rand_cpu(count, _POINTS, 2, generator=generator)
    places = low[:, None] + (high - low)[:, None] * shares  # (N, P, 2), in the image
    points = (places - corners[:, :, None, :2]) / boxes[:, :, None, 2:]  # (2, N, P, 2)
    points[..., 0] = torch.where(flips[..., None], 1 - points[..., 0], points[..., 0])
    pair = torch.arange(count).repeat_interleave(_POINTS)
    images = torch.stack([2 * pair, 2 * pair + 1])
    pairs = PointPairs(pair, images, points.flatten(1, 2), torch.ones(len(pair), 2))
    return boxes.transpose(0, 1).flatten(0, 1), flips.T.flatten(), pairs


def make_views(images: Tensor, boxes: Tensor, flips: Tensor, rows: Tensor) -> Tensor:
    """Pixels of views: cut out, resized to the side of the images, mirrored and coloured.

    Floats of one channel or three keep their colours: those of `recolor` take a known range.

    Args:
        images: (N, C, S, S), uint8 or floats.
        boxes: (2N, 4), from `sample_views`.
        flips: (2N,)
        rows: (M,), indices of the views.

    Returns:
        (M, C, S, S), float32.
    """
    sources = images[rows // 2]
    views = crop_resize(to_unit(sources), boxes[rows], images.shape[-1])
    views = torch.where(flips[rows, None, None, None], views.flip(-1), views)
    if images.dtype != torch.uint8 and images.shape[1] in (1, 3):
        return views
    return recolor(views, make_generator(EVALUATION_SEED, _COLORS, int(rows[0])))


def _squares(images: SPairImages, rows: Tensor, backbone: FrozenBackbone) -> Tensor:
    """Whole images as squares: points of the border stay."""
    size, channels = [backbone.side] * 2, backbone.stats.channels
    shown = (convert_channels(images.image(row), channels) for row in rows.tolist())
    return torch.stack([to_tensor(image_ops.resize(image, size)) for image in shown])


def _maps(backbone: FrozenBackbone, pixels: Pixels, count: int) -> Tensor:
    """Feature maps (count, D, h, w)."""
    layer = backbone.layer or find_map_layer(backbone, backbone.side)
    batches = torch.arange(count).split(_BATCH)
    return torch.cat([backbone.extract_maps(pixels(rows), layer) for rows in batches])


def match_points(maps: Tensor, pairs: PointPairs) -> tuple[Tensor, Tensor]:
    """Whether the place in image b with the most similar feature is right, for each point of a.

    Places that are equally similar count by their share, so that a constant map scores chance.

    Args:
        maps: (m, D, h, w), feature maps of all images.
        pairs: n pairs of points.

    Returns:
        Correct (n,), in [0, 1], and the share of all places that are right, (n,).
    """
    correct, chance = torch.empty(2, len(pairs.pair))
    size = [max(side, _GRID) for side in maps.shape[-2:]]
    places = _centers(*size)
    for b in pairs.images[1].unique():
        upsampled = F.interpolate(maps[b][None], size, mode="bilinear", align_corners=False)
        target = F.normalize(upsampled[0].flatten(1), dim=0)
        for rows in (pairs.images[1] == b).nonzero().flatten().split(_BATCH):
            points_a, points_b = pairs.points[:, rows]
            at = 2 * points_a[:, None, None] - 1
            sources = maps[pairs.images[0, rows]]
            query = F.grid_sample(sources, at, padding_mode="border", align_corners=False)
            cosine = F.normalize(query.flatten(1)) @ target
            nearest = (cosine >= cosine.amax(dim=1, keepdim=True) - _TIE).float()
            is_right = _distance(places, points_b[:, None], pairs.frame[rows, None]) <= ALPHA
            correct[rows] = (nearest * is_right).sum(dim=1) / nearest.sum(dim=1)
            chance[rows] = is_right.float().mean(dim=1)
    return correct, chance


def mean_over_pairs(correct: Tensor, pair: Tensor) -> float:
    """Mean over pairs of images of the mean over their points.

    >>> mean_over_pairs(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0, 1, 1, 1]))
    0.5
    """
    points = pair.bincount()
    of_pairs = torch.bincount(pair, correct)[points > 0] / points[points > 0]
    return float(of_pairs.mean())


def _centers(height: int, width: int) -> Tensor:
    """Centers (x, y) of the cells of a grid, row by row, as fractions of it: (height width, 2)."""
    y, x = ((torch.arange(count) + 0.5) / count for count in (height, width))
    return torch.cartesian_prod(y, x).flip(1)


def _distance(one: Tensor, other: Tensor, frame: Tensor) -> Tensor:
    return ((one - other) * frame).norm(dim=-1)


TASK = Task(
    "correspondence",
    (
        MetricSpec("correspondence_pck", "correspondence: PCK@0.1", percent=True),
        percent_control("correspondence_pck_image", "correspondence: PCK@0.1, mean over pairs"),
        percent_control("correspondence_pck_random", "correspondence: PCK@0.1, random backbone"),
        percent_control("correspondence_pck_position", "correspondence: PCK@0.1, same position"),
        percent_control("correspondence_pck_chance", "correspondence: PCK@0.1, random place"),
    ),
    run,
    load_point_pairs,
    quality=SPATIAL,
)
