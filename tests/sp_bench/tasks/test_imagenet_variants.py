"""Variants of ImageNet and ImageNet-C: small folders in the authors' layouts."""

from __future__ import annotations

import pytest
from PIL import Image
from sp_bench.corruptions import NAMES
from sp_bench.corruptions.imagenet_c import ALEXNET_ERRORS, mean_corruption_error
from sp_bench.data import DataError, Splits
from sp_bench.data.load import load_data
from sp_bench.task_data import select_tasks
from sp_bench.tasks import all_tasks, run_task
from torch import nn

# The classes 0, 1, 2 and 10 of ImageNet, in its order. As text 10 comes before 2.
WNIDS = {0: "n01440764", 1: "n01443537", 2: "n01484850", 10: "n01530575"}
COLOURS = {
    WNIDS[0]: (220, 40, 40),
    WNIDS[1]: (40, 220, 40),
    WNIDS[2]: (40, 40, 220),
    WNIDS[10]: (160, 160, 0),
}
TASKS = all_tasks()


class ColorEncoder(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3))


def write_images(folder, colour, count):
    folder.mkdir(parents=True)
    for index in range(count):
        shade = tuple(value + 3 * index for value in colour)
        Image.new("RGB", (40, 36), shade).save(folder / f"{index}.png")


@pytest.fixture
def shared(tmp_path) -> Splits:
    for part, count in (("train", 6), ("val", 3)):
        for wnid, colour in COLOURS.items():
            write_images(tmp_path / "imagenet" / part / wnid, colour, count)
    return load_data(str(tmp_path / "imagenet"))


def measure(task, folder, shared, make_context, backbone=None):
    splits = TASKS[task].load(str(folder), shared)
    context = make_context(backbone or ColorEncoder(), splits, side=32, crop_size=16)
    return run_task(TASKS[task], context)


def test_classes_are_matched_by_wordnet_id(tmp_path, shared, make_context):
    for wnid in (WNIDS[1], WNIDS[10]):
        write_images(tmp_path / "variant" / wnid, COLOURS[wnid], 4)
    write_images(tmp_path / "variant" / "n99999999", (0, 0, 0), 2)  # not among the training images
    (tmp_path / "variant" / "README.txt").write_text("")
    found = measure("imagenet_a", tmp_path / "variant", shared, make_context)
    assert [found.pop(f"imagenet_a{end}") for end in ("", "_knn", "_clean", "_random")] == [1] * 4
    assert found == {"imagenet_a_chance": 0.5}


def test_only_classes_of_variant_are_chosen(tmp_path, shared, make_context):
    # Its images of the second class look like the fourth, which it has not.
    write_images(tmp_path / "variant" / WNIDS[1], COLOURS[WNIDS[10]], 4)
    write_images(tmp_path / "variant" / WNIDS[2], COLOURS[WNIDS[2]], 4)
    test = TASKS["imagenet_r"].load(str(tmp_path / "variant"), shared).test
    assert test.labels.tolist() == [1] * 4 + [2] * 4
    found = measure("imagenet_r", tmp_path / "variant", shared, make_context)
    assert found["imagenet_r"] == found["imagenet_r_knn"] == found["imagenet_r_clean"] == 1


def test_v2_folders_are_numbers_of_classes(tmp_path, shared, make_context):
    for number, wnid in WNIDS.items():
        write_images(tmp_path / "v2" / str(number), COLOURS[wnid], 3)
    splits = TASKS["imagenet_v2"].load(str(tmp_path / "v2"), shared)
    names = [splits.train.classes[label] for label in splits.test.labels.tolist()[::3]]
    assert names == [WNIDS[0], WNIDS[1], WNIDS[10], WNIDS[2]]
    assert measure("imagenet_v2", tmp_path / "v2", shared, make_context)["imagenet_v2"] == 1


@pytest.fixture
def corrupted(tmp_path):
    """Clean images in every corruption but fog, in which all are of one colour."""
    for index, name in enumerate(NAMES):
        family = tmp_path / "c" / ("weather" if index % 2 else "")
        for severity in range(1, 6):
            for wnid, colour in COLOURS.items():
                shown = COLOURS[WNIDS[0]] if name == "fog" else colour
                write_images(family / name / str(severity) / wnid, shown, 1)
    return tmp_path / "c"


def test_mce_is_relative_to_alexnet(corrupted, shared, make_context):
    found = measure("imagenet_c", corrupted, shared, make_context)
    assert found["imagenet_c_fog"] == 0.25 and found["imagenet_c_snow"] == 1
    assert found["imagenet_c"] == pytest.approx((14 + 0.25) / 15)
    assert found["imagenet_c_mce"] == pytest.approx(0.75 / 0.819324 / 15)
    assert found["imagenet_c_clean"] == 1 and found["imagenet_c_chance"] == 0.25
    as_alexnet = {name: 1 - error for name, error in ALEXNET_ERRORS.items()}
    assert mean_corruption_error(as_alexnet) == pytest.approx(1)
    assert list(ALEXNET_ERRORS) == list(NAMES)


def test_other_folders_are_refused(corrupted, tmp_path, shared):
    write_images(tmp_path / "scenes" / "sea", (0, 0, 0), 2)
    for task, source, images, says in (
        ("imagenet_r", None, shared, "it takes a folder of its own, TASK=FOLDER"),
        ("imagenet_r", "r", None, "it takes images of its classes too"),
        ("imagenet_r", "r", shared, "the folder does not exist"),
        ("imagenet_r", tmp_path / "scenes", shared, r"0 of its classes \(sea\) are .*WordNet ID"),
        ("imagenet_c", tmp_path / "scenes", shared, "gaussian_noise/1 is missing"),
    ):
        with pytest.raises(DataError, match=says) as error:
            TASKS[task].load(source and str(source), images)
        assert "\n" not in str(error.value)
    splits = TASKS["imagenet_c"].load(str(corrupted), shared)
    (corrupted / NAMES[2] / "4" / WNIDS[0] / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png cannot be read"):
        splits.files.images(NAMES[2], 4, splits.files.labels.argsort()[:1], 32)


def test_all_leaves_out_tasks_without_data(tmp_path):
    assert not [name for name in select_tasks(["demo"], "all", None).tasks if "imagenet" in name]
    chosen = select_tasks(["demo", f"imagenet_r={tmp_path}"], "all", None).tasks
    assert [name for name in chosen if "imagenet" in name] == ["imagenet_r"]
