"""Preview: pairs of crops as SP samples them, drawn on images before any training."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.demo import DemoDataset
from sp_bench.data.image_files import find_problem, open_image, resize_and_center_crop
from sp_bench.errors import UsageError
from sp_bench.report.pair_preview import PairPreview, draw_preview
from sp_plugin import ConfigError, SpatialPrediction, SPConfig, replay
from sp_plugin.isolation import make_generator

log = logging.getLogger("sp_bench")

_DPI = 110


def show_pairs(
    paths: Sequence[Path],
    out: Path,
    *,
    config: SPConfig,
    side: int,
    count: int = 8,
    seed: int = 0,
) -> None:
    """Draw pairs of crops with their targets in a PNG.

    Args:
        paths: image files; unreadable ones are skipped and counted in the drawing.
        out: PNG file; its folder is made if it is missing.
        config: settings of SP; open ones are resolved for views of ``side``.
        side: side of the views in pixels, at least 16.
        count: largest number of images.
        seed: seed of the choice of images and of their pairs.

    Raises:
        UsageError: ``count`` or ``side`` is too small, or no image is readable.
    """
    figure = draw_preview(sample_preview(paths, config=config, side=side, count=count, seed=seed))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", dpi=_DPI)


def show_demo_pairs(
    out: Path, *, config: SPConfig, side: int, count: int = 8, seed: int = 0
) -> None:
    """`show_pairs` on images of the demo."""
    images = DemoDataset(max(count, 1) * 2, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{index}.png") for index in range(len(images))]
        for index, path in enumerate(paths):
            images.image(index).save(path)
        show_pairs(paths, out, config=config, side=side, count=count, seed=seed)


def show_recorded_step(file: Path, out: Path) -> None:
    """Draw crops of a step that was left out of training, and the images that they were cut from.

    Colours are stretched to the finite pixels of an image; pixels that are not finite are white.

    Args:
        file: file that ``SPSession(on_nonfinite="record")`` has written.
        out: PNG file; its folder is made if it is missing.

    Raises:
        UsageError: no such file, or one without crops (source ``host_views``).
    """
    try:
        record, crops, _ = replay(file)
    except ConfigError as error:
        raise UsageError(f"replay: {error}") from None
    if crops is None:
        raise UsageError(f"replay: {str(file)!r} has no crops: source is {record['source']!r}")
    sp = SpatialPrediction(1, record["config"])
    pixels = crops.pixels.unflatten(0, crops.boxes.shape[:2])
    images = record["images"]
    if images is None:  # cropped in the data loader
        images = torch.full((crops.boxes.shape[1], *pixels.shape[2:]), 0.8)
    preview = PairPreview(
        frames=(_stretch(images) * 255).to(torch.uint8),
        boxes=crops.boxes[:2],
        windows=None,
        crops=_stretch(pixels[:2]),
        targets=sp.targets.encode(*crops.boxes[:2]),
        config=sp.config,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_preview(preview).savefig(out, format="png", dpi=_DPI)


def _stretch(images: Tensor) -> Tensor:
    """Images (..., C, H, W) with their finite pixels in [0, 1], and 1 elsewhere."""
    images = images.float()
    is_finite = images.isfinite()
    low = images.where(is_finite, torch.inf).amin(dim=(-3, -2, -1), keepdim=True)
    high = images.where(is_finite, -torch.inf).amax(dim=(-3, -2, -1), keepdim=True)
    stretched = (images - low) / (high - low).clamp_min(1e-6)
    return stretched.where(is_finite & stretched.isfinite(), 1.0)


def sample_preview(
    paths: Sequence[Path], *, config: SPConfig, side: int, count: int = 8, seed: int = 0
) -> PairPreview:
    """Sample one pair of crops in each image, by the code that training uses.

    Arguments and errors are those of `show_pairs`.
    """
    if count < 1:
        raise UsageError(f"count: got {count}, takes a whole number from 1 up")
    if side < 16:
        raise UsageError(f"side: got {side}, takes a number of pixels from 16 up")
    views, unreadable = read_views(paths, side, count, seed)
    if unreadable:
        log.warning("show: %d unreadable images were skipped", unreadable)
    sp = SpatialPrediction(1, config.resolve(side))
    boxes, crops = sp.sample_crops(views.float() / 255, make_generator(seed))
    crops = crops.unflatten(0, boxes.shape[:2])
    windows = None
    if sp.config.window != (1.0, 1.0):
        # A new generator of the same seed draws the same windows.
        windows = sp.sampler.windows(len(views), make_generator(seed))
    return PairPreview(
        frames=views,
        boxes=boxes[:2],
        windows=windows,
        crops=crops[:2],
        targets=sp.targets.encode(*boxes[:2]),
        config=sp.config,
        unreadable=unreadable,
    )


def read_views(paths: Sequence[Path], side: int, count: int, seed: int) -> tuple[Tensor, int]:
    """Read images as views: the shorter side resized, the center cut out.

    Args:
        paths: image files.
        side: side of the views in pixels.
        count: largest number of views.
        seed: seed of the choice of images.

    Returns:
        Views (N, 3, side, side), uint8; and the number of unreadable files among those tried.

    Raises:
        UsageError: no file can be read.
    """
    views: list[Tensor] = []
    unreadable = 0
    for path in random.Random(seed).sample(list(paths), len(paths)):
        if len(views) == count:
            break
        try:
            image = open_image(path)
        except Exception:  # PIL's decoders raise errors of many types on damaged files
            unreadable += 1
            continue
        views.append(image_ops.pil_to_tensor(resize_and_center_crop(image, side)))
    if not views:
        raise UsageError(
            f"data: none of the {len(paths)} files can be read; the first is {str(paths[0])!r}: "
            f"{find_problem(paths[0])}"
        )
    return torch.stack(views), unreadable
