"""How charts are drawn and put into the page: colours, SVG that follows the page's, PNG.

Matplotlib is used through its objects, so that no global state of pyplot is touched.
"""

from __future__ import annotations

import base64
import io
import re

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Vermillion and blue of Okabe and Ito's palette: told apart with any colour vision. Each colour
# stands for a variable of the page's style sheet, which has other values on a dark ground.
INK, FAINT, BASELINE, SP = "#1d1f21", "#6f7377", "#d55e00", "#0072b2"
_VARIABLES = {INK: "--ink", FAINT: "--faint", BASELINE: "--baseline", SP: "--sp"}
_FONT = re.compile(r"font-family: [^;\"]*")
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'#([^")]+)[")]')
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


def new_chart(width: float, height: float) -> tuple[Figure, Axes]:
    """A chart in inches, with the quiet axes that all charts of the report have."""
    figure = Figure((width, height), layout="constrained")
    return figure, quiet(figure.add_subplot())


def quiet(axes: Axes, size: float = 9) -> Axes:
    """The same axes without what distracts; ``size`` of their letters, in points."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=size, length=3)
    axes.xaxis.label.set(color=INK, size=size)
    axes.yaxis.label.set(color=INK, size=size)
    return axes


def svg(figure: Figure, name: str) -> str:
    """A chart as an ``<svg>`` element for a page.

    Args:
        figure: What to draw; its colours are those of this module.
        name: Of the chart, different for each on a page: it keeps their ids apart.

    Returns:
        The element: transparent, its text as text, its colours variables of the page. The same
        for the same chart.
    """
    file = io.StringIO()
    settings = {"svg.hashsalt": name, "svg.fonttype": "none"}
    with mpl.rc_context(settings):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = _METADATA.sub("", drawn)
    # Ids that nothing refers to are the same in every drawing; on a page they would be twice.
    wanted = set(_REFERENCE.findall(drawn))
    drawn = _ID.sub(lambda found: found[0] if found[1] in wanted else "", drawn)
    drawn = _FONT.sub("font-family: inherit", drawn)
    for colour, variable in _VARIABLES.items():
        drawn = drawn.replace(colour, f"var({variable})")
    return drawn


def png(figure: Figure, dpi: int = 110) -> str:
    """A figure as a PNG in a ``data:`` address."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
