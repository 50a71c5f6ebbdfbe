"""Times, ratios and memory as text, for the cells of the speed tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sp_bench.goals import Goal
from sp_bench.report.number_format import bounds
from sp_bench.report.table import Table
from sp_bench.speed.cases import PLAIN
from sp_bench.speed.timing import Estimate, Rounds, seconds

Measurements = Mapping[str, Mapping[str, Any]]


class SpeedTable(NamedTuple):
    """The table of one part of a measurement.

    Attributes:
        table: the table, with title and note.
        goals: goals that the measurements decide.
    """

    table: Table
    goals: list[Goal]


def milliseconds(rounds: Rounds) -> str:
    """Median of all steps, from seconds.

    >>> milliseconds([[0.1, 0.2, 0.3]]), milliseconds([[0.00125]])
    ('200', '1.25')
    """
    median = 1000 * seconds(rounds).value
    if median >= 100:
        return f"{median:.0f}"
    return f"{median:.1f}" if median >= 10 else f"{median:.2f}"


def without_repeats(names: Sequence[str]) -> list[str]:
    """Names with an empty string where a name is the same as the one before.

    >>> without_repeats(["a", "a", "b"])
    ['a', '', 'b']
    """
    before = ["", *names]
    return ["" if name == last else name for name, last in zip(names, before, strict=False)]


def factor(ratio: float) -> str:
    """A ratio.

    >>> factor(1.25)
    '1.250'
    """
    return f"{ratio:.3f}"


def estimate(value: Estimate, form: Callable[[float], str] = factor) -> str:
    """A value with its interval; one round has none.

    >>> estimate(Estimate(1.25, 1.2, 1.3))
    '1.250 [1.200, 1.300]'
    """
    if math.isnan(value.low):
        return form(value.value)
    return f"{form(value.value)} {bounds(value.low, value.high, form)}"


def share(part: float) -> str:
    """A share in percent.

    >>> share(0.0213)
    '2.1%'
    """
    return f"{100 * part:.1f}%"


def memory(measurement: Mapping[str, Any], arm: str) -> tuple[str, str]:
    """Peak memory of the host alone and of an arm, in MB."""
    peaks = measurement["peak_bytes"]
    return f"{peaks[PLAIN] / 1e6:.0f}", f"{peaks[arm] / 1e6:.0f}"
