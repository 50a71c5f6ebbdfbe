"""Every PIL mode, as it is and rotated by EXIF: in RGB by its range, or refused by its name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sp_bench.data import DataError, open_image
from sp_bench.data.image_files import find_problem, to_rgb

HALF = np.repeat(np.array([[0, 64, 128, 255]], np.uint8), 3, axis=0)  # (3, 4)
WIDE = (HALF.astype(np.uint16) * 257).astype(np.uint16)
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def image_of(mode: str) -> Image.Image:
    gray = Image.fromarray(HALF)
    if mode in OF_16_BITS:
        kind = {"I;16B": ">u2", "I;16L": "<u2"}.get(mode, "=u2")
        return Image.frombytes(mode, gray.size, WIDE.astype(kind).tobytes())
    for step in {"La": ["LA"], "RGBa": ["RGBA"], "YCbCr": ["RGB"], "HSV": ["RGB"]}.get(mode, []):
        gray = gray.convert(step)
    return gray.convert(mode)


@pytest.mark.parametrize("mode", (*MODES, *OF_16_BITS))
def test_each_mode_keeps_its_range(mode):
    rgb = to_rgb(image_of(mode))
    assert (rgb.mode, rgb.size) == ("RGB", (4, 3))
    first, *_, last = np.asarray(rgb)[0].mean(-1)
    assert first <= 3
    assert last >= 252
    if mode != "1":
        np.testing.assert_allclose(np.asarray(rgb)[..., 0], HALF, atol=6)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_mode_of_unknown_range_is_refused(mode, tmp_path):
    image_of(mode).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"mode {mode}\) of unknown range; takes 8 or 16 bits"):
        open_image(tmp_path / "a.tif")
    problem = find_problem(tmp_path / "a.tif")
    assert problem == ("" if mode == "F" else "an array of int32; takes uint8, uint16 or floats")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "b.tif", "a.pgm", "gray.tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_16_bit_file_is_scaled(name, orientation, tmp_path):
    wide = image_of("L" if name == "gray.tif" else "I;16")
    if name == "b.tif":
        wide = image_of("I;16B")
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide.save(tmp_path / name, **({} if name == "a.pgm" else {"exif": exif}))
    rotated = orientation == 6 and name != "a.pgm"
    expected = np.rot90(HALF, -1) if rotated else HALF
    pixels = np.asarray(open_image(tmp_path / name))
    np.testing.assert_array_equal(pixels, np.repeat(expected[..., None], 3, -1))
    assert find_problem(tmp_path / name) == ""
