"""Goals: a limit for a set of values, next to the value that is furthest from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Goal(NamedTuple):
    """A goal and its outcome.

    Attributes:
        text: statement of the goal.
        worst: value that is furthest from the goal, and its name.
        met: whether the goal is met; None if nothing was measured.
        why: known cause of a miss.
    """

    text: str
    worst: str
    met: bool | None
    why: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``missed`` or ``not measured``.

        >>> Goal("x at most 1", "0.9", True).verdict
        'met'
        """
        if self.met is None:
            return "not measured"
        return "met" if self.met else "missed"


def at_most(
    text: str, limit: float, values: Iterable[tuple[str, float]], form: str = ".2f", why: str = ""
) -> Goal:
    """Goal that the largest of named values, printed by the format ``form``, is at most ``limit``.

    >>> at_most("ratio at most 1.1", 1.1, [("byol", 1.0), ("mae", 1.25)])
    Goal(text='ratio at most 1.1', worst='1.25 (mae)', met=False, why='')
    >>> at_most("ratio at most 1.1", 1.1, [("byol", 1.0), ("mae", math.nan)])
    Goal(text='ratio at most 1.1', worst='none (mae)', met=None, why='')
    """
    worst = max(values, key=lambda item: (math.isnan(item[1]), item[1]), default=None)
    return _of_worst(text, worst, worst is not None and worst[1] <= limit, form, why)


def at_least(
    text: str, limit: float, values: Iterable[tuple[str, float]], form: str = ".2f", why: str = ""
) -> Goal:
    """Goal that the smallest value is at least ``limit``; arguments as for `at_most`."""
    worst = min(values, key=lambda item: (not math.isnan(item[1]), item[1]), default=None)
    return _of_worst(text, worst, worst is not None and worst[1] >= limit, form, why)


def _of_worst(text: str, worst: tuple[str, float] | None, met: bool, form: str, why: str) -> Goal:
    """The goal of a limit; without a value, or where one is NaN, it is neither met nor missed."""
    if worst is None:
        return Goal(text, "", None, why)
    name, value = worst
    if math.isnan(value):
        return Goal(text, f"none ({name})", None, why)
    return Goal(text, f"{value:{form}} ({name})", met, why)


def count_at_least(text: str, holds: Sequence[bool], least: int) -> Goal:
    """Goal that something holds at least so many times.

    >>> count_at_least("better for most", [True, False, True], 2)
    Goal(text='better for most', worst='2 of 3', met=True, why='')
    """
    if not holds:
        return Goal(text, "", None)
    return Goal(text, f"{sum(holds)} of {len(holds)}", sum(holds) >= least)
