"""Listing files, and finding those that cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sp_bench.data import DataError, list_images, load_data, open_image
from sp_bench.data.image_files import find_problem, find_unreadable
from sp_bench.data.image_listing import find_files


def truncate_file(path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])


def test_few_damaged_files_are_skipped(make_folder):
    folder = make_folder({"cat": 100, "dog": 100})
    damaged = folder / "dog" / "0007.jpg"
    truncate_file(damaged)
    splits = load_data(str(folder))
    assert splits.skipped == (str(damaged),)
    assert len(splits.train) + len(splits.test) == 199
    for images in (splits.train, splits.test):
        for index in range(len(images)):
            assert images[index][0].size == (32, 24)


def test_damage_in_both_splits_is_skipped(make_folder):
    folder = make_folder({"train/cat": 100, "train/dog": 80, "test/cat": 10, "test/dog": 10})
    damaged = folder / "train" / "cat" / "0000.jpg", folder / "test" / "dog" / "0009.jpg"
    for path in damaged:
        truncate_file(path)
    splits = load_data(str(folder))
    assert splits.skipped == tuple(str(path) for path in damaged)
    assert (len(splits.train), len(splits.test)) == (179, 19)


def test_2_percent_damaged_is_refused(make_folder):
    folder = make_folder({"cat": 100, "dog": 100})
    for name in ("0003.jpg", "0004.jpg", "0050.jpg", "0051.jpg"):
        truncate_file(folder / "cat" / name)
    with pytest.raises(DataError) as error:
        load_data(str(folder))
    text = str(error.value)
    first = str(folder / "cat" / "0003.jpg")
    assert text.startswith(
        f"4 of 200 images cannot be read, more than 1%; the first is {first!r}: "
    )
    assert "truncated" in text.lower()
    assert text.endswith("; copy it again or remove it")


def test_too_large_image_is_named_as_such(make_folder, monkeypatch):
    folder = make_folder({"cat": 2, "dog": 2})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # images have 768
    with pytest.raises(DataError, match=r"it is too large \(.*768 pixels.*make it smaller"):
        load_data(str(folder))
    assert "copy it again" not in find_problem(folder / "cat" / "0000.jpg")


def test_links_upwards_add_no_images(make_folder):
    folder = make_folder({"cat": 3, "dog": 2, "dog/old": 2})
    whole = load_data(str(folder))
    (folder / "loop").symlink_to(folder)
    (folder / "cat" / "up").symlink_to("..")
    (folder / "dog" / "old" / "top").symlink_to(folder.parent)
    (folder / "cat" / "other").symlink_to("../dog")
    (folder / "dog" / "self").symlink_to("old")
    linked = load_data(str(folder))
    assert linked.train.classes == ("cat", "dog")
    for part in ("train", "test"):
        assert getattr(linked, part).labels.tolist() == getattr(whole, part).labels.tolist()
    assert len(find_files(folder)) == 7


def test_link_to_photographs_is_followed(make_folder, tmp_path):
    folder = make_folder({"cat": 3})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cats").symlink_to(folder / "cat")
    (tmp_path / "mine" / "gone").symlink_to(folder / "gone")
    assert len(find_files(tmp_path / "mine")) == 3


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gone"])
def test_every_kind_of_damage_is_found(tmp_path, ending, damage):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    files = [tmp_path / f"{index:03}.{ending}" for index in range(100)]
    Image.fromarray(noise).save(files[0])
    for file in files[1:]:
        file.write_bytes(files[0].read_bytes())
    bad = files[42]
    if damage == "cut":
        truncate_file(bad)
    elif damage == "empty":
        bad.write_bytes(b"")
    elif damage == "text":
        bad.write_text("404: not found")
    else:
        bad.unlink()
    assert find_unreadable([str(file) for file in files]) == [42]
    with pytest.raises(OSError):
        open_image(bad)


def test_flat_folder_is_listed_in_order(make_folder):
    folder = make_folder({"b": 2, ".": 1, "a/deep": 1})
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.jpg").write_bytes(b"")
    Image.new("RGB", (4, 4)).save(folder / "z.PNG")
    listed = [path.relative_to(folder).as_posix() for path in list_images(folder)]
    assert listed == ["0000.jpg", "a/deep/0000.jpg", "b/0000.jpg", "b/0001.jpg", "z.PNG"]


def test_unlistable_folder_is_refused(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("x")
    for path, text in (
        (tmp_path / "gone", "the folder does not exist"),
        (file, "this is a file; it takes a folder of images"),
        (tmp_path, "no images in it; it takes .bmp, .jpeg, .jpg, .pgm, .png, .ppm, .tif, "),
    ):
        with pytest.raises(DataError) as error:
            list_images(path)
        assert str(error.value).startswith(f"data={str(path)!r}: {text}")
