"""Style of figures, and their conversion to SVG that follows the page's colours, or PNG.

Matplotlib is used through its objects, so that the global state of pyplot does not change.
"""

from __future__ import annotations

import base64
import io
import re

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Vermillion and blue of Okabe and Ito's palette, distinguishable with any colour vision. Each
# colour stands for a variable of the page's style sheet, which has a value for dark pages too.
INK, FAINT, BASELINE, SP = "#1d1f21", "#6f7377", "#d55e00", "#0072b2"
_VARIABLES = {INK: "--ink", FAINT: "--faint", BASELINE: "--baseline", SP: "--sp"}
_FONT = re.compile(r"font-family: [^;\"]*")
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'#([^")]+)[")]')
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of a report, with one pair of axes; sizes in inches."""
    figure = Figure((width, height), layout="constrained")
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


def svg(figure: Figure, name: str) -> str:
    """A figure as an ``<svg>`` element for an HTML page.

    Args:
        figure: figure in the colours of this module.
        name: name of the figure, unique on its page, from which its ids are made.

    Returns:
        The element: transparent, its text as text, its colours variables of the page. The same
        for the same figure.
    """
    file = io.StringIO()
    settings = {"svg.hashsalt": name, "svg.fonttype": "none"}
    with mpl.rc_context(settings):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = _METADATA.sub("", text)
    # Ids without a reference are the same in every figure, and must be unique on a page.
    referenced = set(_REFERENCE.findall(text))
    text = _ID.sub(lambda match: match[0] if match[1] in referenced else "", text)
    text = _FONT.sub("font-family: inherit", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


def png(figure: Figure, dpi: int = 110) -> str:
    """A figure as a PNG in a ``data:`` address; resolution in dots per inch, default 110."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
