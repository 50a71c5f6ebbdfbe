"""Track: from what part of the original picture a view was made, and how it is mirrored."""

from __future__ import annotations

import math
from typing import Any

_UNKNOWN = (math.nan,) * 4


class Track:
    """Goes with a picture through a pipeline, inside of its results, and follows each step.

    A copy is the track of a picture of its own: ``MultiView`` copies the results for each view.

    Attributes:
        box: (left, top, width, height), what is left of the original picture, in fractions of it;
            NaN once it cannot be told.
        flips: (x, y), -1 where the picture is mirrored along that axis, else 1.
        copies: the tracks of the copies, in the order in which they were made.

    >>> track = Track()
    >>> track.flip("horizontal")
    >>> track.crop(0.0, 0.0, 0.25, 1.0)  # on the left of the mirrored picture
    >>> track.box, track.flips
    ((0.75, 0.0, 0.25, 1.0), (-1, 1))
    """

    def __init__(self) -> None:
        self.box: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0)
        self.flips = (1, 1)
        self.copies: list[Track] = []

    def __deepcopy__(self, memo: Any) -> Track:
        copied = Track()
        copied.box, copied.flips = self.box, self.flips
        self.copies.append(copied)
        return copied

    def crop(self, left: float, top: float, width: float, height: float) -> None:
        """What is left of the picture as it stands, in fractions of that."""
        if self.flips[0] < 0:
            left = 1 - left - width
        if self.flips[1] < 0:
            top = 1 - top - height
        x, y, w, h = self.box
        self.box = (x + left * w, y + top * h, width * w, height * h)

    def flip(self, direction: str) -> None:
        """Mirror the picture: ``horizontal``, ``vertical`` or, for both, ``diagonal``."""
        x, y = self.flips
        self.flips = (
            -x if direction in ("horizontal", "diagonal") else x,
            -y if direction in ("vertical", "diagonal") else y,
        )

    def centred(self) -> tuple[float, ...]:
        """The box as (cx, cy, w, h)."""
        x, y, w, h = self.box
        return x + w / 2, y + h / 2, w, h

    def lose(self) -> None:
        """The picture was moved in a way that a box cannot tell."""
        self.box = _UNKNOWN
