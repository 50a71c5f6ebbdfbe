from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from sp_bench.report.prediction_figure import PairExamples, draw_examples, view_margin

INSIDE = [0.3, 0.3, 0.2, 0.4]


def examples(predicted: list[float], n: int = 1) -> PairExamples:
    a, b, p = (torch.tensor([box] * n) for box in (INSIDE, [0.7, 0.6, 0.4, 0.2], predicted))
    return PairExamples(torch.full((n, 3, 8, 8), 7, dtype=torch.uint8), a, b, p)


def rectangles(axes: Axes) -> list[tuple[float, ...]]:
    return [p.get_bbox().bounds for p in axes.patches]  # left, top, width, height


def test_examples_survive_save_and_load(tmp_path: Path) -> None:
    saved = examples([1.2, 0.5, 0.3, 0.3], n=2)
    saved.untrained, saved.answers = saved.a, torch.rand(3, 5, 3)
    saved.save(tmp_path / "examples.pt")
    loaded = vars(PairExamples.load(tmp_path / "examples.pt"))
    assert loaded.keys() == vars(saved).keys()
    torch.testing.assert_close(loaded, vars(saved), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("images", "boxes"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, 4)),  # not uint8
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, 4)),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 4)),
    ],
)
def test_wrong_shapes_are_refused(images: torch.Tensor, boxes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^PairExamples: takes uint8 images .*got [^\n]*$"):
        PairExamples(images, boxes, boxes, boxes)


def test_boxes_have_own_location_and_style() -> None:
    axes = draw_examples(examples([0.9, 0.5, 0.4, 0.2])).axes[0]
    assert rectangles(axes) == [
        pytest.approx((0.2, 0.1, 0.2, 0.4)),
        pytest.approx((0.5, 0.5, 0.4, 0.2)),
        pytest.approx((0.7, 0.4, 0.4, 0.2)),
    ]
    assert len({(p.get_edgecolor(), p.get_linestyle()) for p in axes.patches}) == 3
    assert len({p.get_linestyle() for p in axes.patches}) == 3


def test_margin_grows_with_boxes_up_to_limit() -> None:
    assert view_margin(examples([0.5, 0.5, 0.2, 0.2])) == pytest.approx(0.02)
    assert view_margin(examples([0.0, 0.5, 0.2, 0.2])) == pytest.approx(0.12)
    assert view_margin(examples([9.0, 0.5, 0.2, 0.2])) == pytest.approx(0.15)
    axes = draw_examples(examples([0.0, 0.5, 0.2, 0.2])).axes[0]
    assert axes.get_xlim() == pytest.approx((-0.12, 1.12))


@pytest.mark.parametrize(("x", "marks"), [(0.5, 0), (1.2, 0), (4.0, 1), (-4.0, 1)])
def test_far_prediction_gets_a_marker(x: float, marks: int) -> None:
    axes = draw_examples(examples([x, 0.5, 0.2, 0.2])).axes[0]
    assert len(axes.lines) == marks
    if marks:
        assert (axes.lines[0].get_xdata()[0] > 0.5) == (x > 0.5)


def test_first_row_is_before_training() -> None:
    made = examples([0.9, 0.5, 0.4, 0.2])
    made.untrained = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    all_axes = [axes for axes in draw_examples(made).axes if axes.patches]
    names = [axes.get_ylabel() for axes in all_axes]
    assert names == ["before training", "after training"]
    before, after = (rectangles(axes) for axes in all_axes)
    assert before[:2] == after[:2]
    assert before[2] == pytest.approx((0.4, 0.4, 0.2, 0.2))
    assert after[2] == pytest.approx((0.7, 0.4, 0.4, 0.2))


def test_answers_are_points_with_their_r2() -> None:
    made = examples([0.9, 0.5, 0.4, 0.2])
    truth = torch.tensor([[-1.0, 2.0, 0.5], [1.0, 0.0, -0.5]])
    made.answers = torch.stack(
        [truth, truth.mean(0).expand(2, 3), truth * torch.tensor([1, 1, -1])]
    )
    panels = [axes for axes in draw_examples(made).axes if axes.collections]
    assert [axes.get_title().split(": ")[1] for axes in panels] == [
        "R² 0.00 → 1.00",
        "R² 0.00 → 1.00",
        "R² 0.00 → -3.00",
    ]
    _, after = panels[1].collections
    assert after.get_offsets().tolist() == [[2.0, 2.0], [0.0, 0.0]]
