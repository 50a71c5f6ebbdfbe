"""`to_rgb`: an image of any PIL mode in RGB, by the range of its mode."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sp_bench.data.dataset import DataError

# PIL's readers of these formats scale or keep every integer image in 16 bits, also in mode I.
_FORMATS_OF_16_BITS = ("PNG", "PPM", "JPEG2000")


def to_rgb(image: Image.Image, file_format: str | None = None) -> Image.Image:
    """Image in RGB. Images of 16 bits are scaled to 8; PIL's own conversion clips some at 255.

    Args:
        image: image of any mode.
        file_format: ``format`` of the opened file; None: that of ``image``.

    Raises:
        DataError: the mode has no known range (float, and integers of 32 bits) or no colors.

    >>> to_rgb(Image.new("I;16", (1, 1), 32896)).getpixel((0, 0))
    (128, 128, 128)
    """
    file_format = file_format or image.format
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in _FORMATS_OF_16_BITS):
        values = np.asarray(image).astype(np.float64) * (255 / 65535)
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise DataError(
            f"it is a {kind} image (mode {image.mode}) of unknown range; takes 8 or 16 bits"
        )
    if image.mode == "La":  # PIL converts gray with premultiplied alpha to LA only
        image = image.convert("LA")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise DataError(f"mode {image.mode} cannot be converted to RGB: {error}") from error
