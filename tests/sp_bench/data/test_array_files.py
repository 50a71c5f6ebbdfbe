"""Files of arrays: their layout, dtype and values, and those that are refused."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sp_bench.data import DataError
from sp_bench.data.array_files import (
    channel_axis,
    is_array_file,
    read_array,
    read_layout,
)
from sp_bench.data.dataset import GREY, RGB, ImageKind
from sp_bench.data.image_files import find_problem, find_unreadable, read_image
from sp_bench.data.image_kind import common_kind, read_header


def bands(channels: int, height: int = 16, width: int = 20, dtype: Any = np.uint16) -> np.ndarray:
    count = channels * height * width
    return np.arange(count).reshape(channels, height, width).astype(dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_both_layouts_read_the_same(channels, layout, ending, tmp_path):
    array = bands(channels)
    stored = array if layout == "CHW" else np.moveaxis(array, 0, -1)
    path = tmp_path / f"a{ending}"
    (np.save if ending == ".npy" else np.savez)(path, stored)
    torch.testing.assert_close(read_array(path), torch.from_numpy(array.astype(np.float32)) / 65535)
    assert read_header(path) == (ImageKind(channels, "uint16"), (20, 16))
    assert find_problem(path) == ""


@pytest.mark.parametrize("shape", [(8, 8, 8), (64, 8, 64), (9, 30, 9), (242, 64, 64), (13, 13, 64)])
def test_ambiguous_layout_is_one_line(shape, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError) as error:
        read_array(tmp_path / "a.npy")
    text = str(error.value)
    assert str(shape) in text and "layout.txt" in text and "\n" not in text
    for layout, channels in (("CHW", shape[0]), ("HWC", shape[2])):
        (tmp_path / "layout.txt").write_text(f"{layout.lower()}\n")
        assert len(read_array(tmp_path / "a.npy", read_layout(tmp_path))) == channels


def test_layout_file_takes_two_words(tmp_path):
    assert read_layout(tmp_path) is None
    (tmp_path / "layout.txt").write_text("NCHW")
    with pytest.raises(DataError, match=r"layout.txt has 'NCHW', it takes CHW or HWC"):
        read_layout(tmp_path)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (0, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match=r"takes \(H, W\), \(H, W, C\) or \(C, H, W\)"):
        channel_axis(shape)


@pytest.mark.parametrize(
    ("dtype", "highest"), [("uint8", 255), ("uint16", 1), ("float16", 9), ("float64", 9)]
)
def test_values_keep_range_of_their_dtype(dtype, highest, tmp_path):
    top = 65535 if dtype == "uint16" else highest
    np.save(tmp_path / "a.npy", np.full((5, 6, 7), top, dtype))
    pixels = read_array(tmp_path / "a.npy")
    assert pixels.dtype == (torch.uint8 if dtype == "uint8" else torch.float32)
    assert pixels.float().eq(highest).all()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((5, 8, 9), np.int16), "an array of int16; takes uint8, uint16 or floats"),
        (np.full((5, 8, 9), np.nan), "some values are not finite"),
        (np.full((5, 8, 9), 1e300), "some values are not finite"),
        (np.array([{}]), "Python objects"),
    ],
    ids=["int16", "nan", "float64", "object"],
)
def test_unusable_array_is_named(array, text, tmp_path):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    assert text in find_problem(tmp_path / "a.npy")


def test_cut_file_is_found(tmp_path):
    for ending, save in ((".npy", np.save), (".npz", np.savez)):
        path = tmp_path / f"a{ending}"
        save(path, bands(5))
        path.write_bytes(path.read_bytes()[:-200])
        assert find_problem(path)


def test_npz_takes_one_or_a_named_array(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, mask=np.zeros((4, 4)), image=bands(5))
    assert read_array(path).shape == (5, 16, 20)
    np.savez(path, mask=np.zeros((4, 4)), bands=bands(5))
    with pytest.raises(DataError, match="arrays mask, bands; takes one, or one named 'image'"):
        read_array(path)


def test_8_bit_colors_equal_their_png(tmp_path):
    for kind, array in ((RGB, bands(3, dtype=np.uint8)), (GREY, bands(1, dtype=np.uint8))):
        np.save(tmp_path / "a.npy", array)
        pixels = np.moveaxis(array, 0, -1).squeeze()
        Image.fromarray(pixels).save(tmp_path / "a.png")
        one, other = (read_image(tmp_path / name, kind) for name in ("a.npy", "a.png"))
        assert one.mode == other.mode and one.tobytes() == other.tobytes()
        assert read_header(tmp_path / "a.npy") == read_header(tmp_path / "a.png")


TIFFS = {
    "pages": (bands(13), {}),
    "separate": (bands(13), {"planarconfig": "separate", "photometric": "minisblack"}),
    "contiguous": (
        np.moveaxis(bands(13), 0, -1), {"planarconfig": "contig", "photometric": "minisblack"}
    ),
    "compressed": (bands(13), {"compression": "zlib"}),
    "8 bits and 4 bands": (
        np.moveaxis(bands(4, dtype=np.uint8), 0, -1),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
    ),
    "2 bands": (
        np.moveaxis(bands(2, dtype=np.uint8), 0, -1),
        {"planarconfig": "contig", "photometric": "minisblack"},
    ),
    "floats": (bands(4, dtype=np.float32), {}),
    "one float": (bands(1, dtype=np.float32)[0], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", TIFFS)
def test_tiff_of_bands_is_read(name, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    array, options = TIFFS[name]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, **options)
    expected = array[None] if array.ndim == 2 else array
    if expected.shape[0] == 16:
        expected = np.moveaxis(expected, -1, 0)
    pixels = read_array(path)
    scale = 65535 if array.dtype == np.uint16 else 1
    assert torch.equal(pixels.float(), torch.from_numpy(expected.astype(np.float32)) / scale)
    kind, size = read_header(path)
    assert (kind.channels, size) == (len(expected), (20, 16))
    assert is_array_file(path) and find_problem(path) == ""


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "I;16", "P", "LA"])
def test_ordinary_tiff_stays_with_pil(mode, tmp_path):
    image = Image.new("L", (12, 9)).convert(mode) if mode != "I;16" else Image.new(mode, (12, 9))
    image.save(tmp_path / "a.tif")
    assert not is_array_file(tmp_path / "a.tif")


def test_text_named_tif_is_no_array(tmp_path):
    (tmp_path / "a.tif").write_text("404: not found")
    assert not is_array_file(tmp_path / "a.tif")
    assert "copy it again" in find_problem(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["grey.png", "grey.png"], GREY),
        (["grey.png", "rgb.png", "grey.png"], RGB),
        (["rgb.png", "grey.png"], RGB),
        (["13.npy", "13.npy"], ImageKind(13, "uint16")),
        (["13.npy", "4.npy"], "'13.npy' has 13 channels of uint16, '4.npy' has 4 channels of uint"),
        (["13.npy", "f.npy"], "'f.npy' has 13 channels of float; takes the same in all files"),
        (["grey.png", "13.npy"], "'grey.png' has 1 channel of uint8, '13.npy' has 13 channels"),
    ],
)
def test_kind_is_common_to_all_files(names, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (12, 9)).save("grey.png")
    Image.new("RGB", (12, 9)).save("rgb.png")
    for name, array in (("13", bands(13)), ("4", bands(4)), ("f", bands(13) / 2)):
        np.save(f"{name}.npy", array)
    if isinstance(kind, ImageKind):
        assert common_kind(names) == kind
        return
    with pytest.raises(DataError) as error:
        common_kind(names)
    assert kind in str(error.value) and "\n" not in str(error.value)


def test_missing_tifffile_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    Image.new("F", (12, 9)).save(tmp_path / "a.tif")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "tifffile" else find_spec(name)
    )
    assert "takes the package 'tifffile'" in find_problem(tmp_path / "a.tif")


def test_threads_read_sound_files(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.npy") for i in range(100)]
    for path in paths:
        np.save(path, np.zeros((13, 20, 28), np.uint16))
    threshold = gc.get_threshold()

    def let_others_run(phase: str, info: dict[str, int]) -> None:
        time.sleep(1e-6)

    gc.callbacks.append(let_others_run)  # so that threads take turns while a header is parsed
    gc.set_threshold(5)
    try:
        assert [find_unreadable(paths) for _ in range(10)] == [[]] * 10
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(let_others_run)
