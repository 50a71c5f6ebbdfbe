"""Pairs of crops, and what SP's head answers before and after training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from sklearn.metrics import r2_score
from torch import Tensor

from sp_bench.report.box_drawing import STYLES, draw_box, legend_lines
from sp_bench.report.mpl_style import FAINT, INK, SP, style_axes
from sp_plugin.crops.boxes import cxcywh_to_xyxy

LABELS = {
    "a": "crop a",
    "b": "crop b",
    "predicted": "predicted crop b",
}
_MAX_MARGIN = 0.15  # of the image's side; a box beyond it is cut off
_COLUMNS = 5
_WIDTH = 9.0  # inches
_SCATTER = 2.7  # inches
_QUANTITIES = ("across (dx)", "down (dy)", "scale")


@dataclass
class PairExamples:
    """Images with one pair of crops each, and the answers of SP's head.

    Attributes:
        images: (N, 3, S, S), uint8.
        a: (N, 4), boxes (cx, cy, w, h) of crop a as fractions of the image.
        b: (N, 4), boxes of crop b: the truth.
        predicted: (N, 4), boxes of crop b that the trained head predicts, from
            `TargetEncoder.decode`, with the aspect ratio of a; they may extend beyond the image.
        untrained: (N, 4), the same before training; None if it is not known.
        answers: (3, M, 3): targets of M pairs, the head's answers before training, and those after
            it; dx, dy and scale in standard deviations. None if they are not known.

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
    untrained: Tensor | None = None
    answers: Tensor | None = None

    def __post_init__(self) -> None:
        boxes = [self.a, self.b, self.predicted]
        if self.untrained is not None:
            boxes.append(self.untrained)
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
    """Draw the first images with box a, the true b and the predicted b, and all answers as points.

    The first row is before training and the second after it. All images have the same scale and
    margin: as wide as the boxes need, at most 0.15 of a side. A triangle at the edge marks a
    prediction outside of the margin.

    Args:
        examples: images, boxes and answers; what is not known is left out.

    Returns:
        A figure 9 inches wide.
    """
    rows = {"before training": examples.untrained, "after training": examples.predicted}
    known = {name: boxes for name, boxes in rows.items() if boxes is not None}
    heights = [_WIDTH / _COLUMNS * len(known) + 0.4]
    if examples.answers is not None:
        heights.append(_SCATTER)
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)
    figure = Figure((_WIDTH, sum(heights)), layout=layout, facecolor="white")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)
    _draw_boxes(parts[0, 0], examples, known)
    if examples.answers is not None:
        _draw_answers(parts[1, 0], examples.answers)
    return figure


def view_margin(examples: PairExamples) -> float:
    """Margin around the images that the boxes need, in sides of an image, in [0.02, 0.15]."""
    boxes = [examples.a, examples.b, examples.predicted]
    if examples.untrained is not None:
        boxes.append(examples.untrained)
    edges = cxcywh_to_xyxy(torch.cat(boxes))
    if not len(edges):
        return 0.02
    beyond = torch.cat([-edges[:, :2], edges[:, 2:] - 1]).nan_to_num().max().item()
    return min(max(beyond + 0.02, 0.02), _MAX_MARGIN)


def _draw_boxes(figure: SubFigure, examples: PairExamples, rows: dict[str, Tensor]) -> None:
    margin = view_margin(examples)
    for (name, predicted), all_axes in zip(
        rows.items(), figure.subplots(len(rows), _COLUMNS, squeeze=False), strict=True
    ):
        for i, axes in enumerate(all_axes):
            axes.set(xticks=[], yticks=[], xlim=(-margin, 1 + margin), ylim=(1 + margin, -margin))
            axes.set_frame_on(False)
            axes.set_aspect("equal")
            if i < len(examples.images):
                axes.imshow(examples.images[i].permute(1, 2, 0).numpy(), extent=(0, 1, 1, 0))
                draw_box(axes, examples.a[i], "a")
                draw_box(axes, examples.b[i], "b")
                draw_box(axes, predicted[i], "predicted")
                _mark_outside(axes, predicted[i], margin)
        if len(rows) > 1:
            all_axes[0].set_ylabel(name, color=INK, size=10)
    figure.legend(
        handles=legend_lines(LABELS),
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
        handlelength=3.2,
    )


def _draw_answers(figure: SubFigure, answers: Tensor) -> None:
    truth, *both = answers.numpy()
    limit = 1.05 * abs(truth).max()
    styles = {
        "before training": {"color": FAINT, "marker": "x", "s": 9, "linewidths": 0.7},
        "after training": {"color": SP, "marker": "o", "s": 9, "alpha": 0.7, "linewidths": 0},
    }
    all_axes = figure.subplots(1, len(_QUANTITIES))
    for k, (quantity, axes) in enumerate(zip(_QUANTITIES, all_axes, strict=True)):
        style_axes(axes)
        axes.axline((0, 0), slope=1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        scores = []
        for (name, style), answer in zip(styles.items(), both, strict=True):
            axes.scatter(truth[:, k], answer[:, k], label=name, **style)
            scores.append(r2_score(truth[:, k], answer[:, k]))
        axes.set_title(
            "{}: R² {:.2f} \N{RIGHTWARDS ARROW} {:.2f}".format(quantity, *scores),
            size=10,
            color=INK,
        )
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="target (standard deviations)")
    all_axes[0].set_ylabel("prediction")
    figure.legend(
        *all_axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize=9,
        frameon=False,
    )


def _mark_outside(axes: Axes, box: Tensor, margin: float) -> None:
    left, top, right, bottom = cxcywh_to_xyxy(box).tolist()
    low, high = -margin, 1 + margin
    if right > low and bottom > low and left < high and top < high:
        return
    x, y = box[:2].clamp(low + 0.05, high - 0.05).tolist()
    style = {"color": STYLES["predicted"]["color"], "markeredgecolor": "#000000"}
    axes.plot(x, y, marker="^", markersize=8, **style)
