"""Cards of the report: what a task measures, its headline rows, and an image of it."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from sp_bench.report.box_drawing import draw_box
from sp_bench.report.comparison_table import comparison_table, headline_rows
from sp_bench.report.mpl_style import data_address, png
from sp_bench.report.number_format import format_value
from sp_bench.report.prediction_figure import PairExamples, draw_examples
from sp_bench.report.table import Table
from sp_bench.results import ARM_NAMES, ARMS, SP, Results
from sp_bench.tasks import all_tasks
from sp_bench.tasks.jigsaw import GRIDS
from sp_bench.tasks.robustness import SHOWN_SEVERITY, VERSION

# Tensors that tasks stored, by arm, task and name.
TaskExamples = Mapping[str, Mapping[str, Mapping[str, Tensor]]]

_COLUMNS = 3
_FRAME = 0.88  # of a cell's side: frames of neighbours do not touch
_ENLARGED_SIDE = 128  # pixels, at least about


class CardImage(NamedTuple):
    """An image of a card: its ``<img>``, and the lines below it."""

    image: Markup
    caption: Sequence[str] = ()


class Card(NamedTuple):
    """A section of the report.

    Attributes:
        title: heading.
        question: what the task measures, in one sentence.
        table: headline rows of its tasks; may have none.
        images: at least one.
        note: what the images show.
        layout: class of CSS of the images.
    """

    title: str
    question: str
    table: Table
    images: Sequence[CardImage]
    note: str
    layout: str


def task_cards(
    results: Results, pairs: PairExamples | None, examples: TaskExamples
) -> Iterator[Card]:
    """The cards of the tasks that have something to draw.

    Args:
        results: the comparison.
        pairs: pairs with the head's predictions; None: without their card.
        examples: what the tasks of the first seed stored; empty: without their cards.
    """
    if pairs is not None:
        alt = "Images with crop a, crop b and the predicted location of crop b"
        image = _image(png(draw_examples(pairs)), alt)
        yield Card(
            "Pairs of crops",
            "Where does crop b lie relative to crop a, and how large is it?",
            _rows_of(results, "pair", "pair_interaction"),
            [CardImage(image)],
            "Held-out images, with the predictions of the first SP run's head. A predicted box may "
            "extend beyond its image.",
            "",
        )
    if jigsaws := list(_jigsaw_images(examples)):
        yield Card(
            "Jigsaw",
            "Where in its image does a patch belong?",
            _rows_of(results, "jigsaw"),
            jigsaws,
            "The same test images for both, assembled as the probe of the first seed assigns their "
            "patches. A frame marks a patch in a wrong position.",
            "columns",
        )
    for task, title, key in (
        ("robustness", "Corrupted images", f"robustness_{{}}{VERSION}"),
        ("imagenet_c", "Corrupted images: ImageNet-C", "imagenet_c_{}"),
    ):
        if corrupted := list(_corrupted_images(results, examples, task, key)):
            yield Card(
                title,
                "Does recognition hold when the images are corrupted?",
                _rows_of(results, task),
                corrupted,
                f"One test image at severity {SHOWN_SEVERITY} of 5. Below it: top-1 accuracy of "
                "baseline and SP in percent, mean over seeds and all five severities.",
                "thumbnails",
            )


def draw_jigsaws(images: Tensor, laid: Tensor) -> Figure:
    """Draw assembled images, three in a row, with a frame around each patch in a wrong position.

    Args:
        images: (N, 3, S, S), uint8.
        laid: (N, n * n), true position of the patch at each position, row by row.
    """
    n = round(math.sqrt(laid.shape[1]))
    rows = math.ceil(len(images) / _COLUMNS)
    figure = Figure((4.5, 1.5 * rows), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, patches in zip(grid.flat, images, laid.tolist(), strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy(), extent=(0, 1, 1, 0))
        for position, patch in enumerate(patches):
            if patch != position:
                row, column = divmod(position, n)
                box = [column + 0.5, row + 0.5, _FRAME, _FRAME]
                draw_box(axes, torch.tensor(box) / n, "misplaced")
    return figure


def _jigsaw_images(examples: TaskExamples) -> Iterator[CardImage]:
    for grid in (f"{n}x{n}" for n in GRIDS):
        for arm in ARMS:
            stored = examples.get(arm, {}).get("jigsaw", {})
            if grid in stored:
                laid = stored[f"{grid}_laid"]
                right = int((laid == torch.arange(laid.shape[1])).sum())
                caption = f"{ARM_NAMES[arm]}, {grid}"
                alt = f"{caption}: {right} of {laid.numel()} patches are in their positions"
                figure = draw_jigsaws(stored[grid], laid)
                yield CardImage(_image(png(figure), alt), [caption])


def _corrupted_images(
    results: Results, examples: TaskExamples, task: str, key: str
) -> Iterator[CardImage]:
    stored = examples.get(SP, {}).get(task, {})  # both arms have the same
    rows = {row.metric.key: row for row in results.rows}
    for name in sorted(stored, key="clean".__ne__):  # clean first
        caption = [name.replace("_", " ")]
        if row := rows.get(key.format(name)):
            baseline, sp = (format_value(row.metric, value) for value in (row.baseline, row.sp))
            caption.append(f"{baseline} \N{RIGHTWARDS ARROW} {sp}")
        yield CardImage(_image(_enlarged(stored[name][0]), caption[0]), caption)


def _rows_of(results: Results, *tasks: str) -> Table:
    """Headline rows of some tasks, of the table of all: the correction is over all rows."""
    known = all_tasks()
    keys = {metric.key for name in tasks for metric in (*known[name].metrics, *known[name].retired)}
    rows = headline_rows(results.rows)
    table = comparison_table(rows, with_chance=True)
    lines = zip(rows, table.rows, strict=True)
    return dataclasses.replace(table, rows=[line for row, line in lines if row.metric.key in keys])


def _image(address: str, alt: str) -> Markup:
    return Markup('<img src="{}" alt="{}">').format(address, alt)


def _enlarged(image: Tensor) -> str:
    """An image (3, s, s), uint8, as PNG; a small one by whole factors, so that it stays sharp."""
    factor = max(1, _ENLARGED_SIDE // image.shape[-1])
    large = image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    file = io.BytesIO()
    Image.fromarray(large.permute(1, 2, 0).numpy()).save(file, "PNG")
    return data_address(file.getvalue())
