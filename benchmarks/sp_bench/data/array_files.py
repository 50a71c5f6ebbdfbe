"""Images of any number of channels from files: `.npy`, `.npz` and TIFF of bands.

An array is (H, W), (H, W, C) or (C, H, W). The channels are the first or the last axis, whichever
is smaller than both others; where neither is, the file ``layout.txt`` in the folder of the data
says ``CHW`` or ``HWC``. A TIFF that names its axes needs no rule.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sp_bench.data.dataset import DataError, ImageKind
from sp_plugin.validation import MissingPackageError, needs_packages

ARRAY_ENDINGS = (".npy", ".npz")
TIFF_ENDINGS = (".tif", ".tiff")
LAYOUTS = ("CHW", "HWC")
_LAYOUT_FILE = "layout.txt"
_NAME = "image"  # of the image in a .npz that holds several arrays
_ONE_SAMPLE_MODES = ("1", "L", "P", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's
_WIDE_MODES = ("I", "F")  # Pillow's modes of 32 bits, whose range is not known
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# NumPy parses headers by Python's ast, which raises SystemError ("AST constructor recursion depth
# mismatch", CPython 3.11) if the garbage collector runs meanwhile and lets another thread parse.
_PARSING = threading.Lock()
_EXTRA_SAMPLES = 338  # TIFF tag; 0: a sample that is neither color nor alpha


def read_layout(folder: Path) -> str | None:
    """Layout of the arrays of a folder, from its ``layout.txt``; None: there is none.

    Raises:
        DataError: the file says neither ``CHW`` nor ``HWC``.
    """
    path = folder / _LAYOUT_FILE
    if not path.is_file():
        return None
    text = path.read_text().strip()
    if text.upper() not in LAYOUTS:
        raise DataError.of(folder, f"{_LAYOUT_FILE} has {text!r}, it takes CHW or HWC")
    return text.upper()


def channel_axis(shape: tuple[int, ...], layout: str | None = None) -> int | None:
    """Axis of the channels in an array of this shape; None: the array is (H, W).

    Args:
        shape: shape of the array.
        layout: ``CHW`` or ``HWC``; None: the axis that is smaller than both others.

    Raises:
        DataError: the array is no image, or its layout is ambiguous.

    >>> channel_axis((13, 64, 64)), channel_axis((64, 64, 13)), channel_axis((64, 64))
    (0, 2, None)
    >>> channel_axis((8, 64, 8), "HWC")
    2
    """
    if len(shape) not in (2, 3) or 0 in shape:
        raise DataError(f"an array of shape {shape}; takes (H, W), (H, W, C) or (C, H, W)")
    if len(shape) == 2:
        return None
    if layout is not None:
        return layout.index("C")
    first, middle, last = shape
    if first < min(middle, last):
        return 0
    if last < min(first, middle):
        return 2
    raise DataError(
        f"an array of shape {shape}, whose channels can be the first axis or the last; takes a "
        f"file {_LAYOUT_FILE} in the folder of the data that says CHW or HWC"
    )


def is_array_file(path: str | Path) -> bool:
    """Whether an image file is read as an array rather than by PIL.

    These are ``.npy`` and ``.npz``, and TIFF with bands that are no colors: more samples than
    color and alpha, a page for each band, or 32 bits.
    """
    suffix = Path(path).suffix.lower()
    if suffix in ARRAY_ENDINGS:
        return True
    if suffix not in TIFF_ENDINGS:
        return False
    try:
        with Image.open(path) as image:
            tags: Any = getattr(image, "tag_v2", {})
            is_stack = getattr(image, "n_frames", 1) > 1 and image.mode in _ONE_SAMPLE_MODES
            return image.mode in _WIDE_MODES or 0 in tags.get(_EXTRA_SAMPLES, ()) or is_stack
    except UnidentifiedImageError:
        with Path(path).open("rb") as file:
            return file.read(4) in _TIFF_MAGIC
    except Exception:  # PIL's decoders raise errors of many types on damaged files
        return False


def read_array(path: str | Path, layout: str | None = None) -> Tensor:
    """Image in a file of an array.

    Args:
        path: ``.npy``, ``.npz`` with one array or one named ``image``, or TIFF.
        layout: as for `channel_axis`.

    Returns:
        (C, H, W): uint8 as it is; uint16 as float32 in [0, 1]; floats as float32, unchanged.

    Raises:
        OSError, ValueError: the file is missing, damaged or no array.
        DataError: its shape or dtype cannot be used, or a value is not finite.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.zeros((9, 8, 5), np.uint16))
    ...     read_array(f"{folder}/a.npy").shape
    torch.Size([5, 9, 8])
    """
    array, axis = _read(path, layout)
    array = array[None] if axis is None else np.moveaxis(array, axis, 0)
    if array.dtype == np.uint8:
        return torch.from_numpy(np.array(array, order="C"))
    with np.errstate(over="ignore"):  # of float64
        pixels = torch.from_numpy(np.array(array, np.float32, order="C"))
    if array.dtype == np.uint16:
        return pixels / 65535
    if not pixels.isfinite().all():
        raise DataError("some values are not finite in float32; takes a number for each pixel")
    return pixels


def array_header(path: str | Path, layout: str | None = None) -> tuple[ImageKind, tuple[int, int]]:
    """Kind, width and height of the image in a file of an array; values are read of .npz alone.

    Arguments and errors are those of `read_array`.
    """
    array, axis = _read(path, layout, header_only=True)
    dtype = "float" if array.dtype.kind == "f" else array.dtype.name
    height, width = (size for i, size in enumerate(array.shape) if i != axis)
    return ImageKind(1 if axis is None else array.shape[axis], dtype), (width, height)


def _read(
    path: str | Path, layout: str | None, header_only: bool = False
) -> tuple[np.ndarray, int | None]:
    """Array of a file, and the axis of its channels; ``header_only``: without its values."""
    if Path(path).suffix.lower() in TIFF_ENDINGS:
        array, axis = _read_tiff(path, layout, header_only)
    else:
        array = _load_numpy(path)
        axis = channel_axis(array.shape, layout)
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise DataError(f"an array of {array.dtype}; takes uint8, uint16 or floats")
    return array, axis


def _load_numpy(path: str | Path) -> np.ndarray:
    # A file is untrusted input. An array of its own is mapped: its values are read when used.
    with _PARSING:
        loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded, _PARSING:
        names = list(loaded.files)
        name = _NAME if _NAME in names or len(names) != 1 else names[0]
        if name not in names:
            raise DataError(f"arrays {', '.join(names[:4])}; takes one, or one named {_NAME!r}")
        return np.asarray(loaded[name])


def _read_tiff(
    path: str | Path, layout: str | None, header_only: bool
) -> tuple[np.ndarray, int | None]:
    """Bands of the first image in a TIFF, by the axes that it names."""
    try:
        with needs_packages("a TIFF of bands", "tifffile"):
            import tifffile
    except MissingPackageError as error:
        raise DataError(str(error)) from error
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes, shape = series.axes, series.shape
        named = next((axes.index(axis) for axis in "SC" if axis in axes), None)
        if named is None or len(shape) != 3:
            named = channel_axis(shape, layout)
        if header_only:
            return np.broadcast_to(np.zeros((), series.dtype), shape), named
        return np.asarray(series.asarray()), named
