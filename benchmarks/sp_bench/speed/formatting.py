"""What stands in the cells of a table: times, ratios and memory in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sp_bench.goals import Goal
from sp_bench.speed.cases import PLAIN
from sp_bench.speed.timing import Estimate, seconds

Entries = Mapping[str, Mapping[str, Any]]
NOTHING = "\N{EN DASH}"


class SpeedTable(NamedTuple):
    """A table in words.

    Attributes:
        title: of the part.
        names: how many columns, from the left, hold names; the others hold numbers.
        header: of the columns.
        rows: as long as the header.
        note: how to read it.
        goals: what it says of the goals.
    """

    title: str
    names: int
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str
    goals: list[Goal]


def milliseconds(rounds: Sequence[Sequence[float]]) -> str:
    """The median of all steps.

    >>> milliseconds([[0.1, 0.2, 0.3]]), milliseconds([[0.00125]])
    ('200', '1.25')
    """
    median = 1000 * seconds([list(turn) for turn in rounds]).value
    return f"{median:.{0 if median >= 100 else 1 if median >= 10 else 2}f}"


def once(names: Sequence[str]) -> list[str]:
    """Names that repeat, told where they begin.

    >>> once(["a", "a", "b"])
    ['a', '', 'b']
    """
    return ["" if place and names[place - 1] == name else name for place, name in enumerate(names)]


def factor(ratio: float) -> str:
    """How many times as much.

    >>> factor(1.25)
    '1.250'
    """
    return f"{ratio:.3f}"


def estimate(found: Estimate, form: Callable[[float], str] = factor) -> str:
    """A figure with its interval; one round has none.

    >>> estimate(Estimate(1.25, 1.2, 1.3))
    '1.250 [1.200, 1.300]'
    """
    if math.isnan(found.low):
        return form(found.value)
    return f"{form(found.value)} [{form(found.low)}, {form(found.high)}]"


def share(part: float) -> str:
    """A part of a whole in percent.

    >>> share(0.0213)
    '2.1%'
    """
    return f"{100 * part:.1f}%"


def memory(told: Mapping[str, Any], arm: str) -> tuple[str, str]:
    """Peak of the host alone and of an arm, in MB."""
    peaks = told["peak_bytes"]
    return f"{peaks[PLAIN] / 1e6:.0f}", f"{peaks[arm] / 1e6:.0f}"
