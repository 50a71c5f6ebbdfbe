"""The two layouts of a folder, and the message for every error in one."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sp_bench.data import DataError, load_data

CATS_AND_DOGS = {"cat": 20, "dog": 10}


def image_bytes(images) -> list[bytes]:
    """The pixels of the images, which identify them."""
    return [images[index][0].tobytes() for index in range(len(images))]


def error_message(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        load_data(str(folder))
    text = str(error.value)
    assert "\n" not in text
    return text.replace(str(folder), "FOLDER")


@pytest.mark.parametrize("test_name", ["test", "val", "validation"])
def test_train_and_test_folders_are_used(make_folder, test_name):
    folder = make_folder(
        {"train/cat": 5, "train/dog": 3, f"{test_name}/cat": 2, f"{test_name}/dog": 1}
    )
    splits = load_data(str(folder))
    assert splits.name == "pets"
    assert splits.train.classes == splits.test.classes == ("cat", "dog")
    assert splits.train.labels.tolist() == [0] * 5 + [1] * 3
    assert splits.test.labels.tolist() == [0, 0, 1]
    assert splits.skipped == ()


def test_labels_agree_if_test_lacks_class(make_folder):
    folder = make_folder(
        {"train/ant": 2, "train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1}
    )
    splits = load_data(str(folder))
    assert splits.test.classes == ("ant", "cat", "dog")
    assert splits.test.labels.tolist() == [1, 2]


def test_class_folders_are_split_80_20(make_folder):
    splits = load_data(str(make_folder(CATS_AND_DOGS)))
    assert splits.train.labels.bincount().tolist() == [16, 8]
    assert splits.test.labels.bincount().tolist() == [4, 2]
    assert len(set(image_bytes(splits.train) + image_bytes(splits.test))) == 30


def test_split_depends_on_seed(make_folder):
    folder = str(make_folder(CATS_AND_DOGS))
    mine = image_bytes(load_data(folder, seed=1).test)
    assert mine == image_bytes(load_data(folder, seed=1).test)
    assert mine != image_bytes(load_data(folder, seed=2).test)


def test_images_are_rgb_upright_and_labeled(tmp_path):
    for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.new("RGB", (8, 4), colour).save(tmp_path / name / f"{index}.png")
    Image.new("L", (8, 4), 9).save(tmp_path / "blue" / "grey.PNG")
    lying = Image.new("RGB", (8, 4), (255, 0, 0))
    exif = lying.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    lying.save(tmp_path / "red" / "lying.png", exif=exif)
    splits = load_data(str(tmp_path))
    images = [splits.train[i] for i in range(len(splits.train))]
    images += [splits.test[i] for i in range(len(splits.test))]
    assert {image.mode for image, _ in images} == {"RGB"}
    assert sorted(image.size for image, _ in images) == [(4, 8)] + [(8, 4)] * 5
    for image, label in images:
        red, _, blue = image.getpixel((0, 0))
        assert (red == 255) == (label == 1)
        assert red == 255 or blue in (255, 9)


def test_non_images_and_hidden_are_ignored(make_folder):
    folder = make_folder(CATS_AND_DOGS)
    (folder / "notes.txt").write_text("x")
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "cat" / "._0000.jpg").write_bytes(b"not an image")
    (folder / "empty").mkdir()
    (folder / ".cache").mkdir()
    Image.new("RGB", (4, 4)).save(folder / ".cache" / "0.jpg")
    splits = load_data(str(folder))
    assert splits.train.classes == ("cat", "dog")
    assert len(splits.train) + len(splits.test) == 30
    assert splits.skipped == ()


def test_class_named_train_is_allowed(make_folder):
    splits = load_data(str(make_folder({"boat": 5, "train": 5})))
    assert splits.train.classes == ("boat", "train")


def test_subfolder_images_join_their_class(make_folder):
    splits = load_data(str(make_folder({"cat/day": 4, "cat/night": 4, "dog": 4})))
    assert splits.train.classes == ("cat", "dog")
    assert len(splits.train) + len(splits.test) == 12


def test_dataset_pickle_holds_no_images(make_folder):
    train = load_data(str(make_folder(CATS_AND_DOGS))).train
    sent = pickle.dumps(train)
    assert len(sent) < 30 * 400
    copy = pickle.loads(sent)
    np.testing.assert_array_equal(np.asarray(copy[3][0]), np.asarray(train[3][0]))
    assert copy.classes == train.classes


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"cat": 3}, "data='FOLDER': one class only, 'cat'; it takes at least 2"),
        (
            {".": 3},
            "data='FOLDER': images but no classes; put them in a folder for each class "
            "(tasks without labels, such as pair and jigsaw, take the folder as it is)",
        ),
        (
            {"cat": 0, "dog": 0},
            "data='FOLDER': no images in it; it takes folders of images, one for each class",
        ),
        (
            {"cat": 5, "dog": 1},
            "data='FOLDER': class 'dog' has 1 image; each takes at least 2, one of them to be "
            "held out",
        ),
        (
            {"train": 3, "test": 3},
            "data='FOLDER': its train/ holds images but no classes; it takes train/CLASS/* and "
            "test/CLASS/*, or CLASS/*",
        ),
        (
            {"train/cat": 3, "train/dog": 3},
            "data='FOLDER': it has train/ with classes but no test/, val/ or validation/ with "
            "them; add one, or give 'FOLDER/train' to have a fifth held out",
        ),
        (
            {"train/cat": 3, "test/cat": 3},
            "data='FOLDER/train': one class only, 'cat'; it takes at least 2",
        ),
        (
            {"train/cat": 3, "train/dog": 3, "test/cat": 3},
            "data='FOLDER/test': one class only, 'cat'; it takes at least 2",
        ),
        (
            {"train/cat": 3, "train/dog": 3, "test/cat": 3, "test/emu": 3, "test/fox": 1},
            "data='FOLDER': class 'emu' is in test/ but has no images in train/ (2 such in all); "
            "train/ takes every class of test/",
        ),
    ],
)
def test_folder_errors_are_one_line(make_folder, counts, text):
    assert error_message(make_folder(counts)) == text


def test_class_spelled_in_two_ways_is_one(make_folder):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    folder = make_folder(
        {f"train/{composed}": 2, f"train/{decomposed}": 1, "train/bar": 2}
        | {f"test/{decomposed}": 1, "test/bar": 1}
    )
    splits = load_data(str(folder))
    assert splits.train.classes == splits.test.classes == ("bar", composed)
    assert splits.train.labels.tolist().count(1) == 3
    assert splits.test.labels.tolist() == [0, 1]
