"""Boxes drawn over images: one style per kind of box, visible on bright and dark images."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, Normal, withStroke
from torch import Tensor

from sp_plugin.crops.boxes import cxcywh_to_xyxy

STYLES: dict[str, dict[str, Any]] = {
    "a": {"color": "#ffffff", "linestyle": "-"},
    "b": {"color": "#f0e442", "linestyle": (0, (5, 1.5))},
    "predicted": {"color": "#ff8fc7", "linestyle": (0, (1, 1))},
    "window": {"color": "#56b4e9", "linestyle": (0, (4, 1.5, 1, 1.5))},
    "misplaced": {"color": "#ffffff", "linestyle": "-"},
}
_WIDTH = 1.8


def draw_box(axes: Axes, box: Tensor, style: str) -> None:
    """Draw a box over an image.

    Args:
        axes: axes of the image, whose sides go from 0 to 1, y downwards.
        box: (4,), (cx, cy, w, h) as fractions of the image.
        style: key of ``STYLES``.
    """
    left, top, right, bottom = cxcywh_to_xyxy(box).tolist()
    axes.add_patch(
        Rectangle(
            (left, top),
            right - left,
            bottom - top,
            fill=False,
            linewidth=_WIDTH,
            edgecolor=STYLES[style]["color"],
            linestyle=STYLES[style]["linestyle"],
            path_effects=_casing(),
        )
    )


def legend_lines(labels: dict[str, str]) -> list[Line2D]:
    """Handles of a legend, from labels by style."""
    return [
        Line2D([], [], label=label, linewidth=_WIDTH, path_effects=_casing(), **STYLES[style])
        for style, label in labels.items()
    ]


def _casing() -> list[AbstractPathEffect]:
    return [withStroke(linewidth=_WIDTH + 1.6, foreground="#000000b0"), Normal()]
