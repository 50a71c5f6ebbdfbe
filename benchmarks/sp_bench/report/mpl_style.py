"""Style of figures, and their conversion to PNG.

Matplotlib is used through its objects, so that the global state of pyplot does not change.
Figures are on white, also on dark pages.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import BinaryIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Vermillion and blue of Okabe and Ito's palette, distinguishable with any colour vision.
INK, FAINT, BASELINE, SP = "#1d1f21", "#6f7377", "#d55e00", "#0072b2"


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of a report, with one pair of axes; sizes in inches."""
    figure = Figure((width, height), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    style_axes(axes)
    return figure, axes


def style_axes(axes: Axes, font_size: float = 9) -> None:
    """Remove the upper and right spines, and set colours and font size (points, default 9)."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=font_size, length=3)
    axes.xaxis.label.set(color=INK, size=font_size)
    axes.yaxis.label.set(color=INK, size=font_size)


def save_figure(figure: Figure, file: Path | BinaryIO, dpi: int = 130) -> None:
    """Write a figure as PNG, by default with 130 dots per inch; the same figure: the same bytes."""
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})


def png(figure: Figure, dpi: int = 130) -> str:
    """A figure as a PNG in a ``data:`` address; resolution in dots per inch, default 130."""
    file = io.BytesIO()
    save_figure(figure, file, dpi)
    return data_address(file.getvalue())


def data_address(content: bytes) -> str:
    """Content of a PNG as a ``data:`` address."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
