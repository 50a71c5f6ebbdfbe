"""What SP asks of images, drawn: the pair in its image, the two crops, the answer."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sp_bench.report.answers import answer
from sp_bench.report.box_drawing import draw_box, legend_lines
from sp_bench.report.mpl_style import FAINT, INK
from sp_plugin import SPConfig

# Inches.
_PICTURE, _GAP, _TEXT, _SPACE, _EDGE, _HEAD, _FOOT = 2.75, 0.12, 0.92, 0.3, 0.3, 0.85, 0.6
_CROP = (_PICTURE - _GAP) / 2
_CELL = _PICTURE + _GAP + _CROP + _TEXT
_COLUMNS = 4
_INSIDE = (0.5, 0.5, 0.95, 0.95)  # a box just inside a crop, its line wholly seen
_CHARACTERS = 13  # of the footnote, in an inch


@dataclass
class Asked:
    """Pairs as SP asks about them, one for each image.

    Attributes:
        frames: (N, 3, S, S), uint8, the host's frames.
        boxes: (2, N, 4), crops a and b as (cx, cy, w, h), fractions of the frame.
        windows: (N, 4), what holds both crops; None where that is the whole frame.
        crops: (2, N, 3, s, s), as the backbone gets them but for its normalisation, in [0, 1].
        targets: (N, 3), what the head must say: x, y and scale, in standard deviations.
        config: SP's settings, resolved.
        unreadable: How many files were passed over.
    """

    frames: Tensor
    boxes: Tensor
    windows: Tensor | None
    crops: Tensor
    targets: Tensor
    config: SPConfig
    unreadable: int = 0


def draw_asked(asked: Asked) -> Figure:
    """Draw every pair: image and boxes, the crops beneath, and the answer in words."""
    columns = min(_COLUMNS, max(2, len(asked.frames)))
    rows = math.ceil(len(asked.frames) / columns)
    width = 2 * _EDGE + columns * _PICTURE + (columns - 1) * _SPACE
    height = _HEAD + rows * _CELL + _FOOT
    figure = Figure((width, height), facecolor="white")
    for i in range(len(asked.frames)):
        left = _EDGE + (i % columns) * (_PICTURE + _SPACE)
        top = height - _HEAD - (i // columns) * _CELL
        _draw_pair(figure, asked, i, left, top)
    _draw_head(figure, asked, width, height)
    told = textwrap.fill(footnote(asked), round(_CHARACTERS * (width - 2 * _EDGE)))
    figure.text(_EDGE / width, 0.16 / height, told, size=9, color=FAINT, va="bottom")
    return figure


def headline(config: SPConfig) -> str:
    """The settings that decide what is asked, in a line."""
    return (
        f"What SP asks: crops of {config.crop_size} px, source {config.source}, "
        f"sharpness {config.sharpness}, encoding {config.target_encoding}"
    )


def footnote(asked: Asked) -> str:
    """What a reader must know to read the drawing."""
    told = [
        "Beneath each image: the crops as the backbone gets them, and their size in the frame. "
        "Target: what the head must say of x (to the right), y (downwards) and scale, in standard "
        "deviations."
    ]
    if asked.config.num_crops > 2:
        told.append(f"Shown is one pair of the {asked.config.num_crops} crops of each image.")
    if asked.config.source == "image":
        told.append("In training each crop also gets colour jitter, grey and blur of its own.")
    if asked.unreadable:
        told.append(f"Unreadable files passed over: {asked.unreadable}.")
    return " ".join(told)


def _draw_head(figure: Figure, asked: Asked, width: float, height: float) -> None:
    left = _EDGE / width
    figure.text(left, 1 - 0.16 / height, headline(asked.config), size=12, color=INK, va="top")
    labels = {"a": "crop a", "b": "crop b", "window": "window that holds both"}
    if asked.windows is None:
        del labels["window"]
    figure.legend(
        handles=legend_lines(labels),
        loc="upper left",
        bbox_to_anchor=(left, 1 - 0.42 / height),
        borderaxespad=0,
        borderpad=0,
        ncols=3,
        fontsize=10,
        frameon=False,
        handlelength=3.2,
    )


def _draw_pair(figure: Figure, asked: Asked, i: int, left: float, top: float) -> None:
    axes = _place(figure, left, top, _PICTURE, asked.frames[i])
    if asked.windows is not None:
        draw_box(axes, asked.windows[i], "window")
    side = asked.frames.shape[-1]
    for j, name in enumerate(("a", "b")):
        box = asked.boxes[j, i]
        draw_box(axes, box, name)
        beneath = left + j * (_CROP + _GAP), top - _PICTURE - _GAP
        crop = _place(figure, *beneath, _CROP, (asked.crops[j, i] * 255).round().clamp(0, 255))
        draw_box(crop, torch.tensor(_INSIDE), name)
        w, h = (box[2:] * side).round().int().tolist()
        size = f"{name}: {w} \N{MULTIPLICATION SIGN} {h} px"
        crop.text(0.5, 1.05, size, size=9, color=FAINT, ha="center", va="top")
    x, y, scale = asked.targets[i].tolist()
    words = answer(asked.boxes[0, i], asked.boxes[1, i], asked.config.target_encoding)
    told = f"{words}\ntarget  x {x:+.2f}   y {y:+.2f}   scale {scale:+.2f}"
    axes.text(0, (_CELL - _TEXT + 0.26) / _PICTURE, told, size=8.3, color=INK, va="top")


def _place(figure: Figure, left: float, top: float, side: float, pixels: Tensor) -> Axes:
    """Axes of ``side`` inches that show an image (3, H, W), its own sides from 0 to 1."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / width, (top - side) / height, side / width, side / height), frameon=False
    )
    shown = pixels.to(torch.uint8).permute(1, 2, 0).numpy()
    axes.imshow(shown, extent=(0, 1, 1, 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    return axes
