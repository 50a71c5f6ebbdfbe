"""Preview: pairs of crops as SP samples them, drawn on images before any training."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sp_bench.data.array_files import is_array_file
from sp_bench.data.channel_stats import to_tensor, to_unit
from sp_bench.data.demo import DemoDataset
from sp_bench.data.image_files import (
    find_problem,
    open_image,
    read_array_image,
    resize_and_center_crop,
    to_rgb,
)
from sp_bench.data.image_kind import common_kind
from sp_bench.data.rgb_display import RGBDisplay, check_rgb, default_triple
from sp_bench.errors import UsageError
from sp_bench.report.pair_preview import PairPreview, draw_preview
from sp_plugin import ConfigError, SpatialPrediction, SPConfig, replay
from sp_plugin.isolation import make_generator

log = logging.getLogger("sp_bench")

_DPI = 110


def save_preview(preview: PairPreview, out: Path) -> None:
    """Draw pairs of crops with their targets in a PNG.

    Args:
        preview: from `sample_preview`.
        out: PNG file; its folder is made if it is missing.
    """
    figure = draw_preview(preview)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", dpi=_DPI)


def sample_preview(
    paths: Sequence[Path],
    *,
    config: SPConfig,
    side: int,
    count: int = 8,
    seed: int = 0,
    rgb: Sequence[int] | None = None,
    layout: str | None = None,
) -> PairPreview:
    """Sample one pair of crops in each image, by the code that training uses.

    Args:
        paths: image files; unreadable ones are skipped and counted in the drawing.
        config: settings of SP; open ones are resolved for views of ``side``.
        side: side of the views in pixels, at least 16.
        count: largest number of images.
        seed: seed of the choice of images and of their pairs.
        rgb: channels that are drawn as red, green and blue, from 0; None: as for `RGBDisplay`.
        layout: layout of arrays, as for `channel_axis`.

    Raises:
        UsageError: ``count`` or ``side`` is too small, no image is readable, or the images have
            not the channels of ``rgb``.
        DataError: the images have different numbers of channels.
    """
    if count < 1:
        raise UsageError(f"count: got {count}, takes a whole number from 1 up")
    if side < 16:
        raise UsageError(f"side: got {side}, takes a number of pixels from 16 up")
    views, unreadable = read_views(paths, side, count, seed, layout)
    check_rgb(rgb, views.shape[1])
    if unreadable:
        log.warning("show: %d unreadable images were skipped", unreadable)
    sp = SpatialPrediction(1, config.resolve(side))
    boxes, crops = sp.sample_crops(to_unit(views), make_generator(seed))
    crops = crops.unflatten(0, boxes.shape[:2])
    windows = None
    if sp.config.window != (1.0, 1.0):
        # A new generator of the same seed draws the same windows.
        windows = sp.sampler.windows(len(views), make_generator(seed))
    display = RGBDisplay.fit(views, rgb)
    return PairPreview(
        frames=display.to_uint8(views),
        boxes=boxes[:2],
        windows=windows,
        crops=display(crops[:2]),
        targets=sp.targets.encode(*boxes[:2]),
        config=sp.config,
        unreadable=unreadable,
        channels=_describe_channels(views, display),
    )


def show_demo_pairs(
    out: Path, *, config: SPConfig, side: int, count: int = 8, seed: int = 0
) -> None:
    """Draw `sample_preview` on images of the demo."""
    images = DemoDataset(max(count, 1) * 2, seed=seed, side=side)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{index}.png") for index in range(len(images))]
        for index, path in enumerate(paths):
            images.image(index).save(path)
        preview = sample_preview(paths, config=config, side=side, count=count, seed=seed)
    save_preview(preview, out)


def show_recorded_step(file: Path, out: Path, rgb: Sequence[int] | None = None) -> None:
    """Draw crops of a step that was left out of training, and the images that they were cut from.

    Colours are stretched to the finite pixels of an image; pixels that are not finite are white.

    Args:
        file: file that ``SPSession(on_nonfinite="record")`` has written.
        out: PNG file; its folder is made if it is missing.
        rgb: as for `sample_preview`.

    Raises:
        UsageError: no such file, one without crops (source ``host_views``), or images that have
            not the channels of ``rgb``.
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
    check_rgb(rgb, images.shape[1])
    triple = list(default_triple(images.shape[1]) if rgb is None else rgb)
    preview = PairPreview(
        frames=(_stretch(images[:, triple]) * 255).to(torch.uint8),
        boxes=crops.boxes[:2],
        windows=None,
        crops=_stretch(pixels[:2, :, triple]),
        targets=sp.targets.encode(*crops.boxes[:2]),
        config=sp.config,
    )
    save_preview(preview, out)


def _stretch(images: Tensor) -> Tensor:
    """Images (..., C, H, W) with their finite pixels in [0, 1], and 1 elsewhere."""
    images = images.float()
    is_finite = images.isfinite()
    low = images.where(is_finite, torch.inf).amin(dim=(-3, -2, -1), keepdim=True)
    high = images.where(is_finite, -torch.inf).amax(dim=(-3, -2, -1), keepdim=True)
    stretched = (images - low) / (high - low).clamp_min(1e-6)
    return stretched.where(is_finite & stretched.isfinite(), 1.0)


def _describe_channels(views: Tensor, display: RGBDisplay) -> str:
    """What is drawn of images that are not RGB; empty for RGB."""
    if views.shape[1] == 3 and views.dtype == torch.uint8:
        return ""
    drawn = " ".join(map(str, display.triple))
    stretched = "" if views.dtype == torch.uint8 else ", from their 2nd to their 98th percentile"
    return f"Drawn as RGB: channels {drawn} (from 0) of {views.shape[1]}{stretched}."


def read_views(
    paths: Sequence[Path], side: int, count: int, seed: int, layout: str | None = None
) -> tuple[Tensor, int]:
    """Read images as views: the shorter side resized, the center cut out.

    Args:
        paths: image files.
        side: side of the views in pixels.
        count: largest number of views.
        seed: seed of the choice of images.
        layout: layout of arrays, as for `channel_axis`.

    Returns:
        Views (N, C, side, side), uint8 or float32; and the number of unreadable files among those
        tried.

    Raises:
        UsageError: no file can be read.
        DataError: the images have different numbers of channels, or different dtypes.
    """
    read: list[str] = []
    views: list[Tensor] = []
    unreadable = 0
    for path in random.Random(seed).sample(list(paths), len(paths)):
        if len(views) == count:
            break
        try:
            image = _read(path, layout)
        except Exception:  # PIL's decoders raise errors of many types on damaged files
            unreadable += 1
            continue
        views.append(to_tensor(resize_and_center_crop(image, side)))
        read.append(str(path))
    if not views:
        raise UsageError(
            f"data: none of the {len(paths)} files can be read; the first is {str(paths[0])!r}: "
            f"{find_problem(paths[0], layout)}"
        )
    if len({(len(view), view.dtype) for view in views}) > 1:
        common_kind(read, layout)  # raises, and names two of the files
    return torch.stack(views), unreadable


def _read(path: Path, layout: str | None) -> Any:
    """Image in RGB, or a tensor (C, H, W) if it is neither grey nor RGB of 8 bits."""
    if not is_array_file(path):
        return open_image(path)
    image = read_array_image(path, layout)
    return image if isinstance(image, Tensor) else to_rgb(image)
