"""Shape bias: counts by hand, networks that go by one cue alone, and folders of cue conflicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sp_bench.data import DataError, Splits
from sp_bench.data.demo import DemoCues, load_demo_cues
from sp_bench.tasks import run_task
from sp_bench.tasks.probe_decisions import decide
from sp_bench.tasks.shape_bias import TASK, shape_bias
from torch import Tensor, nn


class ColorEncoder(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.amax(dim=(2, 3))


class OutlineEncoder(nn.Module):
    """How much of the image is bright, in any colour."""

    def forward(self, images: Tensor) -> Tensor:
        bright = (images.amax(dim=1) > 0).float().flatten(1)
        return torch.stack([bright.mean(1), bright.mean(1).square()], 1)


CLASSES = ("automobile", "cat", "ship")
COLOURS = np.array([[220, 40, 40], [40, 220, 40], [40, 40, 220]])
SIDES = (8, 14, 22)


def draw_square(shape: int, texture: int, shift: int) -> np.ndarray:
    """A square whose size is the shape and whose colour is the texture."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[2 + shift : 2 + shift + SIDES[shape], 3 : 3 + SIDES[shape]] = COLOURS[texture]
    return pixels


@pytest.fixture
def squares(arrays) -> Splits:
    labels = np.arange(60) % 3
    part = arrays(np.stack([draw_square(k, k, i % 7) for i, k in enumerate(labels)]), labels)
    part.classes = CLASSES
    return Splits("squares", part, part)


@pytest.fixture
def folder(tmp_path):
    names = ("car", "cat", "boat", "oven")
    for i, shape in enumerate(names):
        (tmp_path / shape).mkdir()
        for j, texture in enumerate(names):
            for n in range(2):
                pixels = draw_square(min(i, 2), min(j, 2), n)
                Image.fromarray(pixels).save(tmp_path / shape / f"{shape}{n}-{texture}{n + 3}.png")
    return tmp_path


def test_share_and_decision_by_hand():
    shapes, textures = np.array([0, 0, 0, 1, 1]), np.array([1, 1, 1, 2, 2])
    assert shape_bias(np.array([0, 0, 1, 2, 0]), shapes, textures) == 2 / 4
    assert shape_bias(np.array([2, 2, 2, 0, 0]), shapes, textures) == 0.5
    scores = np.array([[0.6, 0.1, 0.3], [0.1, 0.5, 0.4]])
    assert decide(scores, np.array([1, 2])).tolist() == [2, 1]


def test_single_cue_network_decides_by_it(folder, squares, make_context):
    splits = TASK.load(str(folder), squares)
    # Three known classes, six pairs that differ, two images each; the oven is none of them.
    assert len(splits.test) == 12
    found = run_task(
        TASK, make_context(OutlineEncoder(), splits, ColorEncoder(), side=32, crop_size=16)
    )
    assert found["shape_bias"] == 1 and found["shape_bias_random"] == 0
    assert found["shape_bias_decided"] == found["shape_bias_images"] == 12
    assert (found["shape_bias_by_shape"], found["shape_bias_by_texture"]) == (1, 0)
    assert found["shape_bias_by_chance"] == pytest.approx(1 / 3)


def test_counts_are_no_headlines():
    assert [metric.key for metric in TASK.metrics if metric.headline] == ["shape_bias"]


def test_classes_json_maps_class_names(folder, squares):
    (folder / "classes.json").write_text('{"car": "ship", "boat": "Automobile"}')
    test = TASK.load(str(folder), squares).test
    by_name = dict(zip(("automobile", "cat", "ship"), range(3), strict=True))
    first = [int(test.labels[i]) for i in range(len(test))]
    # In the order of the folders' names: boat, car, cat.
    assert first[0] == by_name["automobile"] and first[-1] == by_name["cat"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "cat/cat0-car3.png").rename(f / "cat/dog0-car3.png"),
         r"cat/dog0-car3.png: it takes SHAPE/SHAPE<n>-TEXTURE<n>"),
        (lambda f: (f / "classes.json").write_text('{"car": "lorry"}'),
         "'lorry' is no class of the probe; they are automobile, cat, ship"),
        (lambda f: (f / "classes.json").write_text("car"), "no JSON"),
    ],
)  # fmt: skip
def test_bad_folders_are_refused_in_one_line(folder, squares, spoil, says):
    spoil(folder)
    with pytest.raises(DataError, match=says) as error:
        TASK.load(str(folder), squares)
    assert "\n" not in str(error.value)


def test_unmatched_class_folders_are_refused(folder, squares):
    squares.train.classes = ("ant", "bee", "cat")
    with pytest.raises(DataError, match=r"1 of its classes \(boat, car, cat, oven\) are the probe"):
        TASK.load(str(folder), squares)


def test_demo_cues_conflict_only_in_test():
    splits = load_demo_cues()
    assert torch.equal(splits.train.labels, splits.train.textures)
    pairs = set(zip(splits.test.labels.tolist(), splits.test.textures.tolist(), strict=True))
    assert len(pairs) == 30 and all(a != b for a, b in pairs)
    one, again = (np.asarray(DemoCues(30, True).image(7)) for _ in range(2))
    assert (one == again).all()
    assert TASK.load("demo", None).test.classes == ("block", "disc", "cone", "dome", "bowl", "star")
