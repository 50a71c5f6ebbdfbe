"""From the value of --data to the two splits, and messages for bad input."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from sp_bench.data import DataError, DemoDataset, load_data


def test_demo_test_split_is_a_third(demo):
    splits = load_data("demo", size=54)
    assert (splits.name, len(splits.train), len(splits.test)) == ("demo", 54, 18)
    np.testing.assert_array_equal(np.asarray(splits.train[5][0]), np.asarray(demo[5][0]))
    assert splits.train.classes == splits.test.classes


def test_limited_demo_keeps_first_images(demo):
    splits = load_data("demo", size=54, limit=20)
    assert isinstance(splits.train, DemoDataset)
    assert (len(splits.train), len(splits.test)) == (20, 18)
    np.testing.assert_array_equal(np.asarray(splits.train[19][0]), np.asarray(demo[19][0]))


def test_the_seed_reaches_the_demo():
    first, other = (load_data("demo", size=27, seed=seed) for seed in (0, 1))
    assert first.train[0][0].tobytes() != other.train[0][0].tobytes()
    assert first.test[0][0].tobytes() != other.test[0][0].tobytes()


def test_splits_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        load_data("demo", size=27).name = "other"


def test_limit_keeps_class_shares(make_folder):
    folder = str(make_folder({"cat": 50, "dog": 25, "emu": 5}))  # 40, 20 and 4 to train on
    whole = load_data(folder)
    some = load_data(folder, limit=32)
    assert some.train.labels.bincount().tolist() == [20, 10, 2]
    assert len(some.test) == len(whole.test) == 16
    assert len(load_data(folder, limit=1000).train) == 64
    again, other = load_data(folder, limit=32), load_data(folder, limit=32, seed=1)
    first = [some.train[index][0].tobytes() for index in range(32)]
    assert first == [again.train[index][0].tobytes() for index in range(32)]
    assert first != [other.train[index][0].tobytes() for index in range(32)]


@pytest.mark.parametrize(
    ("spec", "settings", "text"),
    [
        ("cifr10", {}, "data='cifr10': unknown; did you mean 'cifar10'?"),
        ("Demo1", {}, "data='Demo1': unknown; did you mean 'demo'?"),
        ("oxford-pet", {}, "data='oxford-pet': unknown; did you mean 'oxfordiiitpet'?"),
        ("photos/pets", {}, "data='photos/pets': the folder does not exist"),
        ("~/no such folder", {}, "data='~/no such folder': the folder does not exist"),
        (
            "qqq",
            {},
            "data='qqq': no such folder or name; it takes demo, a folder of images in classes, "
            "or cifar10, cifar100, dtd, fashionmnist, fgvcaircraft, flowers102, food101, gtsrb, "
            "imagenette, oxfordiiitpet, stanfordcars, stl10, stl10unlabeled, svhn",
        ),
        ("", {}, "data='': no such folder or name; it takes demo, a folder of images in"),
        ("demo", {"limit": 0}, "limit=0: it takes a number of images, at least 1"),
        ("demo", {"limit": 8}, "limit=8: it takes at least one for each of 9 classes"),
        ("demo", {"size": 26}, "size=26: the demo takes at least 27, for 9 classes"),
        ("demo", {"seed": -1}, "seed=-1: it takes a whole number, at least 0"),
        ("cifar10", {"size": 9}, "size=9: only 'demo' has it, not data='cifar10'; use limit"),
    ],
)
def test_bad_input_gives_one_line_error(spec, settings, text):
    with pytest.raises(DataError) as error:
        load_data(spec, **settings)
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


def test_limit_below_class_count_is_refused(make_folder):
    folder = str(make_folder({"cat": 5, "dog": 5, "emu": 5}))
    with pytest.raises(DataError) as error:
        load_data(folder, limit=2)
    assert str(error.value) == "limit=2: it takes at least one image for each of 3 classes"


def test_file_instead_of_folder_is_refused(tmp_path):
    file = tmp_path / "pets.zip"
    file.write_bytes(b"")
    with pytest.raises(DataError) as error:
        load_data(str(file))
    assert str(error.value) == f"data={str(file)!r}: this is a file, not a folder"
