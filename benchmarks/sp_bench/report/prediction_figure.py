"""Sampled pairs: the location of crop b and its prediction by SP's head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from sp_bench.report.box_drawing import STYLES, draw_box, legend_lines
from sp_plugin.crops.boxes import cxcywh_to_xyxy

LABELS = {
    "a": "crop a",
    "b": "crop b",
    "predicted": "predicted crop b (with a's aspect ratio)",
}
_MAX_MARGIN = 0.15  # of the image's side; a box beyond it is cut off
_COLUMNS = 4


@dataclass
class PairExamples:
    """Images with one pair of crops each, and the prediction of SP's head.

    Attributes:
        images: (N, 3, S, S), uint8.
        a: (N, 4), boxes (cx, cy, w, h) of crop a as fractions of the image.
        b: (N, 4), boxes of crop b: the truth.
        predicted: (N, 4), predicted boxes of crop b, from `TargetEncoder.decode`; may extend
            beyond the image.

    Raises:
        ValueError: the shapes do not match.

    >>> box = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    >>> PairExamples(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), box, box, box + 1).a.shape
    torch.Size([1, 4])
    """

    images: Tensor
    a: Tensor
    b: Tensor
    predicted: Tensor

    def __post_init__(self) -> None:
        boxes = (self.a, self.b, self.predicted)
        n = len(self.images)
        bad = self.images.ndim != 4 or self.images.shape[1] != 3
        if bad or self.images.dtype != torch.uint8 or any(x.shape != (n, 4) for x in boxes):
            raise ValueError(
                "PairExamples: takes uint8 images (N, 3, S, S) and boxes (N, 4), got "
                f"{self.images.dtype} {tuple(self.images.shape)} and "
                f"{', '.join(str(tuple(x.shape)) for x in boxes)}"
            )

    def save(self, path: Path) -> None:
        """Write the tensors to a file."""
        torch.save(vars(self), path)

    @classmethod
    def load(cls, path: Path) -> PairExamples:
        """Read what `save` wrote."""
        return cls(**torch.load(path, weights_only=True, map_location="cpu"))


def draw_examples(examples: PairExamples) -> Figure:
    """Draw each image with box a, the true b and the predicted b.

    All images have the same scale and margin: as wide as the boxes need, at most 0.15 of a
    side. A triangle at the edge marks a prediction outside of the margin.

    Args:
        examples: images, boxes and predictions.

    Returns:
        A figure about 9 inches wide.
    """
    margin = view_margin(examples)
    columns = min(_COLUMNS, max(1, len(examples.images)))
    rows = max(1, math.ceil(len(examples.images) / columns))
    side = 9 / _COLUMNS
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    figure = Figure((max(side * columns, 5), side * rows + 0.45), layout=layout)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, axes in zip(range(len(examples.images)), grid.flat, strict=False):
        axes.imshow(examples.images[i].permute(1, 2, 0).numpy(), extent=(0, 1, 1, 0))
        axes.set(xlim=(-margin, 1 + margin), ylim=(1 + margin, -margin))
        for name in LABELS:
            draw_box(axes, getattr(examples, name)[i], name)
        _mark_outside(axes, examples.predicted[i], margin)
    figure.legend(
        handles=legend_lines(LABELS),
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
        handlelength=3.2,
    )
    return figure


def view_margin(examples: PairExamples) -> float:
    """Margin around the images that the boxes need, in sides of an image, in [0.02, 0.15]."""
    edges = cxcywh_to_xyxy(torch.cat([examples.a, examples.b, examples.predicted]))
    if not len(edges):
        return 0.02
    beyond = torch.cat([-edges[:, :2], edges[:, 2:] - 1]).nan_to_num().max().item()
    return min(max(beyond + 0.02, 0.02), _MAX_MARGIN)


def _mark_outside(axes: Axes, box: Tensor, margin: float) -> None:
    left, top, right, bottom = cxcywh_to_xyxy(box).tolist()
    low, high = -margin, 1 + margin
    if right > low and bottom > low and left < high and top < high:
        return
    x, y = box[:2].clamp(low + 0.05, high - 0.05).tolist()
    style = {"color": STYLES["predicted"]["color"], "markeredgecolor": "#000000"}
    axes.plot(x, y, marker="^", markersize=8, **style)
