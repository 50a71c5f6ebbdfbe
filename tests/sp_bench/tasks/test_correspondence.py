"""The whole task on encoders that know each place or none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sp_bench.data.dataset import DataError, Splits
from sp_bench.data.point_pairs import load_point_pairs
from sp_bench.tasks import correspondence, run_task
from sp_bench.tasks.correspondence import TASK
from torch import Tensor, nn


class ConstantMap(nn.Module):
    """The same feature at every place."""

    def forward(self, images: Tensor) -> Tensor:
        return images.new_ones(len(images), 4, 7, 7)


@pytest.fixture
def few_ramps(ramps, arrays) -> Splits:
    few = arrays(ramps.test.pixels[:8], ramps.test.labels[:8])
    return Splits("ramps", few, few)


def measure(make_context, splits, backbone, untrained=None):
    return run_task(TASK, make_context(backbone, splits, untrained, side=64, crop_size=32))


def test_color_of_each_place_is_found(few_ramps, make_context, monkeypatch):
    colored = measure(make_context, few_ramps, nn.Identity(), ConstantMap())
    assert colored["correspondence_pck"] < 0.9
    monkeypatch.setattr(correspondence, "recolor", lambda views, generator: views)
    plain = measure(make_context, few_ramps, nn.Identity(), ConstantMap())
    assert plain["correspondence_pck"] > 0.999
    chance = plain["correspondence_pck_chance"]
    assert 0.02 < chance < 0.0315  # at most the circle's area
    assert plain["correspondence_pck_random"] == pytest.approx(chance, abs=1e-3)
    assert plain["correspondence_pck_position"] < 0.4


def test_constant_map_scores_chance(few_ramps, make_context):
    found = measure(make_context, few_ramps, ConstantMap())
    assert found["correspondence_pck"] == pytest.approx(found["correspondence_pck_chance"])


def test_random_backbone_is_encoded_once(few_ramps, make_context, monkeypatch):
    context = make_context(nn.Identity(), few_ramps, ConstantMap(), side=64, crop_size=32)
    one = run_task(TASK, context)
    monkeypatch.setattr(context.untrained, "extract_maps", None)
    assert run_task(TASK, context) == one


def write_spair(folder: Path) -> Path:
    """Two pairs of a ramp and its mirror image, with a point of image b 0, 3, 9 and 9 px away."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[..., 0], image[..., 1] = np.linspace(0, 255, 80), np.linspace(0, 255, 60)[:, None]
    for name in ("JPEGImages/cat", "PairAnnotation/test", "Layout/large"):
        (folder / name).mkdir(parents=True)
    for name, pixels in (("a", image), ("b", image[:, ::-1])):
        Image.fromarray(pixels).save(folder / f"JPEGImages/cat/{name}.jpg", format="png")
    points = [[20, 20], [40, 30], [60, 40]]
    for pair, moves in (("1-a-b:cat", [0]), ("2-a-b:cat", [3, 9, 9])):
        source = points[: len(moves)]
        annotation = {
            "category": "cat", "src_imname": "a.jpg", "trg_imname": "b.jpg", "src_kps": source,
            "trg_kps": [[79 - x, y + move] for (x, y), move in zip(source, moves, strict=True)],
            "trg_bndbox": [10, 10, 70, 20],
        }  # fmt: skip
        (folder / f"PairAnnotation/test/{pair}.json").write_text(json.dumps(annotation))
    (folder / "Layout/large/test.txt").write_text("1-a-b:cat\n2-a-b:cat\n")
    return folder


def test_spair_threshold_is_of_larger_side(tmp_path, make_context):
    splits = load_point_pairs(str(write_spair(tmp_path / "SPair")), None)
    assert (splits.name, len(splits.test), splits.test.classes) == ("SPair", 2, ("cat",))
    found = measure(make_context, splits, nn.Identity(), ConstantMap())
    assert found["correspondence_pck"] == pytest.approx(2 / 4)
    assert found["correspondence_pck_image"] == pytest.approx((1 + 1 / 3) / 2)


def test_incomplete_spair_folder_is_refused(tmp_path):
    folder = write_spair(tmp_path / "SPair")
    (folder / "JPEGImages/cat/b.jpg").unlink()
    with pytest.raises(DataError, match=r"laid out as SPair-71k, but .*b\.jpg"):
        load_point_pairs(str(folder), None)
    (folder / "PairAnnotation/test/1-a-b:cat.json").write_text('{"category": "cat"}')
    with pytest.raises(DataError, match="not as in SPair-71k: KeyError"):
        load_point_pairs(str(folder), None)
