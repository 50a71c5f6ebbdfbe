"""What SP will ask, drawn on images of one's own before any training."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.image_files import open_image
from sp_bench.errors import UsageError
from sp_bench.report.pair_preview import PairPreview, draw_preview
from sp_plugin import SpatialPrediction, SPConfig
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
    """Draw pairs as SP will ask about them, with the answers that it wants, as a PNG.

    Args:
        paths: Image files. Unreadable ones are passed over, and counted in the drawing.
        out: The PNG file; its folder is made where it is missing.
        config: Settings of SP; what they leave open is chosen for frames of ``side``.
        side: Of the host's frame, in pixels.
        count: How many images; fewer where there are fewer.
        seed: Which images, and which pairs in them.

    Raises:
        UsageError: Nothing to draw: a count or a side below its least, or no readable image.
    """
    figure = draw_preview(ask(paths, config=config, side=side, count=count, seed=seed))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", dpi=_DPI)


def ask(
    paths: Sequence[Path], *, config: SPConfig, side: int, count: int = 8, seed: int = 0
) -> PairPreview:
    """Draw one pair in each of some images, by the code that draws them in training.

    Args and errors are those of `show_pairs`.
    """
    if count < 1:
        raise UsageError(f"count: got {count}, takes a whole number from 1 up")
    if side < 16:
        raise UsageError(f"side: got {side}, takes a number of pixels from 16 up")
    frames, unreadable = read_frames(paths, side, count, seed)
    if unreadable:
        log.warning("show: %d unreadable images were passed over", unreadable)
    sp = SpatialPrediction(1, config.resolve(side))
    boxes, crops = sp.sample_crops(frames.float() / 255, make_generator(seed))
    crops = crops.unflatten(0, boxes.shape[:2])
    # A fresh generator of the same seed gives the windows again.
    windows = sp.sampler.windows(len(frames), make_generator(seed))
    return PairPreview(
        frames=frames,
        boxes=boxes[:2],
        windows=windows if sp.config.window != (1.0, 1.0) else None,
        crops=crops[:2],
        targets=sp.targets.encode(*boxes[:2]),
        config=sp.config,
        unreadable=unreadable,
    )


def read_frames(paths: Sequence[Path], side: int, count: int, seed: int) -> tuple[Tensor, int]:
    """Read some images as the host's frames: shorter side resized, the centre cut out.

    Args:
        paths: Image files.
        side: Of the frames, in pixels.
        count: How many are wanted.
        seed: Which ones.

    Returns:
        The frames (N, 3, side, side), uint8, N at most ``count``; and how many unreadable files
        were met on the way.

    Raises:
        UsageError: Not one of the files can be read.
    """
    frames: list[Tensor] = []
    unreadable = 0
    for path in random.Random(seed).sample(list(paths), len(paths)):
        if len(frames) == count:
            break
        try:
            image = open_image(path)
        except Exception:  # PIL's decoders raise errors of many kinds on damaged files
            unreadable += 1
            continue
        image = image_ops.center_crop(image_ops.resize(image, [side]), [side])
        frames.append(image_ops.pil_to_tensor(image))
    if not frames:
        raise UsageError(f"data: none of the {len(paths)} files can be read as an image")
    return torch.stack(frames), unreadable
