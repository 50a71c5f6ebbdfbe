"""Checks of settings: each takes a key and a value, and gives the value or refuses it by name.

A bad setting gets one line that says which it is, what it got and what it takes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

Check = Callable[[str, Any], Any]


class ConfigError(ValueError):
    """A setting that SP cannot take. The message is one line: key, what it got, what it takes."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the nearest ones that are.

    >>> nearest("wieght", ["weight", "warmup"])
    "did you mean 'weight'?"
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def invalid_value(key: str, got: Any, takes: str) -> ConfigError:
    """The error to raise for a value that a setting does not take."""
    return ConfigError(f"{key}: got {got!r}, takes {takes}")


def choice(*names: str) -> Check:
    def check(key: str, value: Any) -> Any:
        if value in names:
            return value
        raise invalid_value(key, value, f"one of {', '.join(names)}")

    return check


def number(low: float, high: float, takes: str) -> Check:
    def check(key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise invalid_value(key, value, takes)
        if not low <= value <= high:
            raise invalid_value(key, value, takes)
        return float(value)

    return check


def integer(low: int, takes: str, high: float = float("inf")) -> Check:
    def check(key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise invalid_value(key, value, takes)
        return value

    return check


def ordered_range(low: float, high: float, takes: str) -> Check:
    end = number(low, high, takes)

    def check(key: str, value: Any) -> tuple[float, float]:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise invalid_value(key, value, takes)
        first, last = end(key, value[0]), end(key, value[1])
        if first > last or first == 0:
            raise invalid_value(key, value, takes)
        return first, last

    return check


def value_or_schedule(check_one: Check, is_one: Callable[[Any], bool], takes: str) -> Check:
    """One value, or two: where it begins and where it ends."""

    def check(key: str, value: Any) -> Any:
        if is_one(value):
            return check_one(key, value)
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise invalid_value(key, value, takes)
        return check_one(key, value[0]), check_one(key, value[1])

    return check


def optional(check_one: Check) -> Check:
    return lambda key, value: None if value is None else check_one(key, value)


def boolean(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid_value(key, value, "true or false")
    return value


def non_empty_str(takes: str) -> Check:
    def check(key: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise invalid_value(key, value, takes)
        return value

    return check
