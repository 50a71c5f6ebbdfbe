"""Sizes of images and crops in pixels: one number for a square, else (height, width)."""

from __future__ import annotations

__all__ = ["Size", "box_ratio", "height_and_width", "shorter_side", "size_text", "to_size"]

Size = int | tuple[int, int]


def to_size(height: int, width: int) -> Size:
    """One number where both are equal.

    >>> to_size(32, 32), to_size(32, 128)
    (32, (32, 128))
    """
    return height if height == width else (height, width)


def height_and_width(size: Size) -> tuple[int, int]:
    """Both sides of a size.

    >>> height_and_width(32), height_and_width((32, 128))
    ((32, 32), (32, 128))
    """
    return size if isinstance(size, tuple) else (size, size)


def shorter_side(size: Size) -> int:
    """The smaller of both sides."""
    return min(height_and_width(size))


def size_text(size: Size) -> str:
    """A size in words, height first.

    >>> size_text(32), size_text((32, 128))
    ('32', '32 x 128')
    """
    return " x ".join(map(str, size)) if isinstance(size, tuple) else str(size)


def box_ratio(frame: Size, crop_size: Size) -> float:
    """Width / height of the box, in fractions of a frame, that has the shape of a crop in pixels.

    Args:
        frame: size of the image or view.
        crop_size: size that crops are resized to.

    Returns:
        1 where frame and crops are of one shape.

    >>> box_ratio(224, 96), box_ratio((96, 256), 32), box_ratio((64, 64), (32, 128))
    (1.0, 0.375, 4.0)
    """
    (height, width), (rows, columns) = height_and_width(frame), height_and_width(crop_size)
    return (columns * height) / (rows * width)
