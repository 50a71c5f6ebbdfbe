"""Preview of SP's task: pairs of crops in their images, the crops, and the targets."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sp_bench.report.box_drawing import draw_box, legend_lines
from sp_bench.report.mpl_style import FAINT, INK
from sp_bench.report.pair_description import describe_pair
from sp_plugin import SPConfig

# Inches.
_IMAGE, _GAP, _TEXT, _SPACE, _EDGE, _HEAD, _FOOT = 2.75, 0.12, 0.92, 0.3, 0.3, 0.85, 0.6
_CROP = (_IMAGE - _GAP) / 2
_CELL = _IMAGE + _GAP + _CROP + _TEXT
_COLUMNS = 4
_INSIDE = (0.5, 0.5, 0.95, 0.95)  # a box just inside a crop, so that its line is visible
_CHARACTERS = 13  # per inch of the footnote
_TITLE_CHARACTERS = 11  # per inch of the title
_TITLE_LINE = 0.22


@dataclass
class PairPreview:
    """One pair of crops per image, as SP samples it in training.

    Attributes:
        frames: (N, 3, S, S), uint8, frames as the method trains on, as RGB.
        boxes: (2, N, 4), crops a and b as (cx, cy, w, h), fractions of the frame.
        windows: (N, 4), windows that contain both crops; None if that is the whole frame.
        crops: (2, N, 3, s, s), crops in [0, 1], as RGB and before normalisation.
        targets: (N, 3), targets of the head: x, y and scale, in standard deviations.
        config: resolved settings of SP.
        unreadable: number of skipped files, default 0.
        channels: what of the images is drawn, for the footnote; empty for RGB.
    """

    frames: Tensor
    boxes: Tensor
    windows: Tensor | None
    crops: Tensor
    targets: Tensor
    config: SPConfig
    unreadable: int = 0
    channels: str = ""


def draw_preview(preview: PairPreview) -> Figure:
    """Draw every pair: image and boxes, the crops below, and the target in words."""
    columns = min(_COLUMNS, max(2, len(preview.frames)))
    rows = math.ceil(len(preview.frames) / columns)
    width = 2 * _EDGE + columns * _IMAGE + (columns - 1) * _SPACE
    title = textwrap.wrap(headline(preview.config), round(_TITLE_CHARACTERS * (width - 2 * _EDGE)))
    head = _HEAD + _TITLE_LINE * (len(title) - 1)
    height = head + rows * _CELL + _FOOT
    figure = Figure((width, height), facecolor="white")
    for i in range(len(preview.frames)):
        left = _EDGE + (i % columns) * (_IMAGE + _SPACE)
        top = height - head - (i // columns) * _CELL
        _draw_pair(figure, preview, i, left, top)
    _draw_head(figure, preview, title, head)
    note = textwrap.fill(footnote(preview), round(_CHARACTERS * (width - 2 * _EDGE)))
    figure.text(_EDGE / width, 0.16 / height, note, size=9, color=FAINT, va="bottom")
    return figure


def headline(config: SPConfig) -> str:
    """The settings that define the task, in one line."""
    return (
        f"SP's task: crops of {config.crop_size} px, source {config.source}, "
        f"sharpness {config.sharpness}, target encoding {config.target_encoding}"
    )


def footnote(preview: PairPreview) -> str:
    """How to read the figure."""
    notes = [
        "Below each image: the crops as the backbone gets them, and their size in the frame. "
        "Target: x (to the right), y (downwards) and scale that the head must predict, in "
        "standard deviations."
    ]
    if preview.config.num_crops > 2:
        notes.append(f"Shown is one pair of the {preview.config.num_crops} crops of each image.")
    if preview.config.source == "image":
        notes.append("In training each crop has its own colours and blur.")
    if preview.channels:
        notes.append(preview.channels)
    if preview.unreadable:
        notes.append(f"Unreadable files that were skipped: {preview.unreadable}.")
    return " ".join(notes)


def _draw_head(figure: Figure, preview: PairPreview, title: Sequence[str], head: float) -> None:
    width, height = figure.get_size_inches()
    left = _EDGE / width
    figure.text(left, 1 - 0.16 / height, "\n".join(title), size=12, color=INK, va="top")
    labels = {"a": "crop a", "b": "crop b", "window": "window of both crops"}
    if preview.windows is None:
        del labels["window"]
    figure.legend(
        handles=legend_lines(labels),
        loc="upper left",
        bbox_to_anchor=(left, 1 - (0.42 + head - _HEAD) / height),
        borderaxespad=0,
        borderpad=0,
        ncols=3,
        fontsize=10,
        frameon=False,
        handlelength=3.2,
    )


def _draw_pair(figure: Figure, preview: PairPreview, i: int, left: float, top: float) -> None:
    axes = _image_axes(figure, left, top, _IMAGE, preview.frames[i])
    if preview.windows is not None:
        draw_box(axes, preview.windows[i], "window")
    side = preview.frames.shape[-1]
    for j, name in enumerate(("a", "b")):
        box = preview.boxes[j, i]
        draw_box(axes, box, name)
        below = left + j * (_CROP + _GAP), top - _IMAGE - _GAP
        crop = _image_axes(figure, *below, _CROP, (preview.crops[j, i] * 255).round().clamp(0, 255))
        draw_box(crop, torch.tensor(_INSIDE), name)
        w, h = (box[2:] * side).round().int().tolist()
        size = f"{name}: {w} \N{MULTIPLICATION SIGN} {h} px"
        crop.text(0.5, 1.05, size, size=9, color=FAINT, ha="center", va="top")
    x, y, scale = preview.targets[i].tolist()
    a, b = preview.boxes[:, i]
    words = describe_pair(a, b, preview.config.target_encoding)
    text = f"{words}\ntarget  x {x:+.2f}   y {y:+.2f}   scale {scale:+.2f}"
    axes.text(0, (_CELL - _TEXT + 0.26) / _IMAGE, text, size=8.3, color=INK, va="top")


def _image_axes(figure: Figure, left: float, top: float, side: float, pixels: Tensor) -> Axes:
    """Axes of ``side`` inches with an image (3, H, W), whose sides go from 0 to 1."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / width, (top - side) / height, side / width, side / height), frameon=False
    )
    shown = pixels.to(torch.uint8).permute(1, 2, 0).numpy()
    axes.imshow(shown, extent=(0, 1, 1, 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    return axes
