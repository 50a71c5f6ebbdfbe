"""What is wanted, each goal beside the figure that is furthest from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Goal(NamedTuple):
    """One goal and how it came out.

    Attributes:
        text: what was wanted.
        worst: the figure that is furthest from it, and where.
        met: whether it is good enough; None where nothing was measured.
        why: what a miss comes from, as far as it is known.
    """

    text: str
    worst: str
    met: bool | None
    why: str = ""

    @property
    def verdict(self) -> str:
        """In a word or two.

        >>> Goal("x at most 1", "0.9", True).verdict
        'met'
        """
        return "not measured" if self.met is None else "met" if self.met else "missed"


def at_most(
    text: str, limit: float, figures: Iterable[tuple[str, float]], form: str = ".2f", why: str = ""
) -> Goal:
    """The largest figure is to be ``limit`` at most.

    >>> at_most("ratio at most 1.1", 1.1, [("byol", 1.0), ("mae", 1.25)])
    Goal(text='ratio at most 1.1', worst='1.25 (mae)', met=False, why='')
    """
    return _judged(text, max(figures, key=lambda each: each[1], default=None), limit, form, 1, why)


def at_least(
    text: str, limit: float, figures: Iterable[tuple[str, float]], form: str = ".2f", why: str = ""
) -> Goal:
    """The smallest figure is to be ``limit`` at least."""
    return _judged(text, min(figures, key=lambda each: each[1], default=None), limit, form, -1, why)


def _judged(
    text: str, worst: tuple[str, float] | None, limit: float, form: str, sign: int, why: str
) -> Goal:
    if worst is None:
        return Goal(text, "", None, why)
    where, figure = worst
    return Goal(text, f"{figure:{form}} ({where})", sign * figure <= sign * limit, why)
