"""InputCheck: what SP takes is compared with what the student gets; no false alarms."""

from __future__ import annotations

import copy
import functools
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import Crops, SPSession

SIDE, STEPS = 24, 4


class Student(nn.Sequential):
    """A small net that can also be called by a method of its own."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU())

    def encode(self, images: Tensor) -> Tensor:
        return self[2](self[1](self[0](images)))


def natural_images(n: int = 8, side: int = SIDE) -> Tensor:
    """Smooth images in [0, 1], of different brightness."""
    grid = torch.rand(n, 3, 4, 4)
    return nn.functional.interpolate(grid, (side, side), mode="bilinear")


def normalized(images: Tensor) -> Tensor:
    return (images - 0.45) / 0.225


def warnings_of(
    caplog: Any,
    step: Callable[[nn.Module, Any], Any],
    batch: Callable[[], Any] = natural_images,
    order: str = "capture",
    **settings: Any,
) -> list[str]:
    """What is said in a few steps of ``step(student, batch)``."""
    torch.manual_seed(0)
    student = Student()
    session = SPSession(student, hidden_dim=8, **settings)
    with caplog.at_level(logging.WARNING, "sp_plugin"):
        for _ in range(STEPS):
            now = batch()
            if order == "sp first":
                session(now)
                step(student, now)
            elif order == "sp last":
                step(student, now)
                session(now)
            else:
                with torch.no_grad():
                    student(torch.rand(2, 3, 9, 9) * 100)  # outside of the step: not compared
                with session.capture():
                    step(student, now)
                    session(now)
    assert not any(part._forward_pre_hooks for part in student.modules())
    return [r.getMessage() for r in caplog.records if "the student gets" in r.getMessage()]


each_order = pytest.mark.parametrize("order", ["capture", "sp first", "sp last"])


@each_order
@pytest.mark.parametrize(
    "change",
    [
        normalized,
        lambda x: 2 * x - 1,
        lambda x: x * 255,
        lambda x: nn.functional.interpolate(x, (12, 12)),
    ],
    ids=["normalised", "to [-1, 1]", "to 255", "resized"],
)
def test_change_inside_the_step_is_said(caplog, order, change):
    lines = warnings_of(caplog, lambda student, x: student(change(x)), order=order)
    assert len(lines) == 1 and "\n" not in lines[0]
    assert "view=" in lines[0] and "source='image'" in lines[0] and lines[0].count(" of mean ") == 2


def test_change_before_own_method_is_said(caplog):
    lines = warnings_of(caplog, lambda student, x: student.encode(normalized(x)))
    assert len(lines) == 1


def test_other_entry_of_the_batch_is_named(caplog):
    def batch() -> dict[str, Tensor]:
        return {
            "normals": torch.rand(8, 3, SIDE, SIDE) * 0.1,
            "image": normalized(natural_images()),
        }

    lines = warnings_of(caplog, lambda student, x: student(x["image"]), batch)
    assert len(lines) == 1 and lines[0].endswith("set view='image'")
    caplog.clear()
    assert not warnings_of(caplog, lambda student, x: student(x["image"]), batch, view="image")


def two_views() -> list[Tensor]:
    image = natural_images()
    return [normalized(image * (0.6 + 0.8 * torch.rand(len(image), 3, 1, 1))) for _ in range(2)]


def multi_crop() -> list[Tensor]:
    return [*two_views(), *(view[..., :12, :12] for view in two_views())]


def masked(x: Tensor) -> Tensor:
    return x * (torch.rand(len(x), 1, SIDE, SIDE) < 0.25)


def autocast_step(student: nn.Module, x: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        student(x)


@each_order
@pytest.mark.parametrize(
    ("step", "batch"),
    [
        (lambda student, x: student(x), natural_images),
        (lambda student, x: student.encode(x), natural_images),
        (lambda student, x: student(masked(x)), natural_images),
        (autocast_step, natural_images),
        (lambda student, x: student(x.to(memory_format=torch.channels_last)), natural_images),
        (lambda student, x: student(x.flip(3)), natural_images),
        (lambda student, x: [student(view) for view in x], two_views),
        (lambda student, x: student(torch.cat(x)), two_views),
        (lambda student, x: student(x[1]), two_views),
        (lambda student, x: student(torch.cat(x)[torch.randperm(16)]), two_views),
        (lambda student, x: [student(view) for view in x], multi_crop),
        (lambda student, x: student(torch.cat(x[2:])), multi_crop),
        (lambda student, x: None, natural_images),
        (lambda student, x: student(torch.zeros_like(x)), lambda: torch.zeros(4, 3, SIDE, SIDE)),
    ],
    ids=["plain", "own method", "masked", "autocast", "channels last", "flipped", "two views",
         "concatenated", "second view only", "shuffled", "multi-crop", "local only", "not called",
         "blank"],
)  # fmt: skip
def test_usual_methods_raise_no_alarm(caplog, step, batch, order):
    assert warnings_of(caplog, step, batch, order) == []


def test_small_batches_raise_no_alarm(caplog):
    batch = functools.partial(natural_images, 2)
    assert warnings_of(caplog, lambda student, x: student(x), batch) == []


def test_crops_of_the_image_are_compared(caplog):
    for change, count in ((normalized, 1), (lambda x: x, 0)):
        caplog.clear()
        torch.manual_seed(0)
        student = Student()
        session = SPSession(student, source="image", hidden_dim=8)
        for _ in range(STEPS):
            images = natural_images()
            crops = Crops(torch.rand(4, 8, 4), natural_images(32, 12))
            student(change(images))
            session(images, crops)
        lines = [r.getMessage() for r in caplog.records if "the student gets" in r.getMessage()]
        assert len(lines) == count
        assert all("Normalize" in line for line in lines)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copy_of_the_student_records_nothing(copied):
    student = Student()
    session = SPSession(student, hidden_dim=8)
    student(natural_images())
    teacher = copied(student)
    teacher(natural_images() * 100)
    assert len(session._input_check._calls) == 1
    assert all(hook.calls is None for hook in teacher._forward_pre_hooks.values())


@pytest.mark.slow
def test_compiled_student_is_compared(caplog):
    torch.manual_seed(0)
    student = Student()
    compiled = torch.compile(student, backend="eager", fullgraph=True)
    session = SPSession(compiled, hidden_dim=8)
    for _ in range(STEPS):
        images = natural_images()
        with session.capture():
            compiled(normalized(images))
            session(images)
    assert sum("the student gets" in r.getMessage() for r in caplog.records) == 1
