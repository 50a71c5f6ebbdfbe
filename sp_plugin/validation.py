"""Checks of settings: each takes a key and a value, and returns the value or raises `ConfigError`.

A bad setting gets one line: which setting, what it got, what it takes.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["ConfigError", "MissingPackageError", "did_you_mean", "invalid_value", "needs_packages"]

Check = Callable[[str, Any], Any]


class ConfigError(ValueError):
    """A setting that SP cannot use. The message is one line: key, value, expected values."""


class MissingPackageError(ConfigError, ModuleNotFoundError):
    """A package that is not installed. The message is one line: who needs it, what to install."""


@contextlib.contextmanager
def needs_packages(name: str, install: str) -> Iterator[None]:
    """Imports that need packages which may not be installed.

    Args:
        name: module or setting that imports them, for the message.
        install: what ``pip install`` takes to bring them.

    Raises:
        MissingPackageError: one is not installed. A module that an installed package lacks is a
            fault of that package, and its error stays as it is.

    >>> with needs_packages("sp_lightly", "sp-plugin[lightly]"):
    ...     import not_there
    Traceback (most recent call last):
    sp_plugin.validation.MissingPackageError: sp_lightly: takes the package 'not_there', ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or importlib.util.find_spec(package) is not None:
            raise
        missing = MissingPackageError(
            f"{name}: takes the package {package!r}, which is not installed; "
            f'pip install "{install}"'
        )
        missing.name = package
        raise missing from None


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Hint for an unknown name: the nearest known one, else ``otherwise`` or all of them.

    >>> did_you_mean("wieght", ["weight", "window"])
    "did you mean 'weight'?"
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return otherwise or f"known are {', '.join(known)}"


def invalid_value(key: str, got: Any, expected: str) -> ConfigError:
    """The error to raise for a value that a setting does not take."""
    return ConfigError(f"{key}: got {got!r}, takes {expected}")


def first_line(error: BaseException) -> str:
    """First line of an error's message; the name of its class where it has none.

    >>> first_line(ValueError("bad shape")), first_line(AssertionError())
    ('bad shape', 'AssertionError')
    """
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def choice(*names: str) -> Check:
    def check(key: str, value: Any) -> Any:
        if value in names:
            return value
        raise invalid_value(key, value, f"one of {', '.join(names)}")

    return check


def number(low: float, high: float, expected: str) -> Check:
    def check(key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise invalid_value(key, value, expected)
        if not low <= value <= high:
            raise invalid_value(key, value, expected)
        return float(value)

    return check


def positive(check_value: Check, expected: str) -> Check:
    def check(key: str, value: Any) -> Any:
        checked = check_value(key, value)
        if checked > 0:
            return checked
        raise invalid_value(key, value, expected)

    return check


def integer(low: int, expected: str, high: float = float("inf")) -> Check:
    def check(key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise invalid_value(key, value, expected)
        return value

    return check


def ordered_range(low: float, high: float, expected: str) -> Check:
    check_end = number(low, high, expected)

    def check(key: str, value: Any) -> tuple[float, float]:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise invalid_value(key, value, expected)
        first, last = check_end(key, value[0]), check_end(key, value[1])
        if first > last or first == 0:
            raise invalid_value(key, value, expected)
        return first, last

    return check


def value_or_schedule(check_value: Check, is_value: Callable[[Any], bool], expected: str) -> Check:
    """One value, or two: at the start and at the end of training."""

    def check(key: str, value: Any) -> Any:
        if is_value(value):
            return check_value(key, value)
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise invalid_value(key, value, expected)
        return check_value(key, value[0]), check_value(key, value[1])

    return check


def optional(check_value: Check) -> Check:
    return lambda key, value: None if value is None else check_value(key, value)


def boolean(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid_value(key, value, "true or false")
    return value


def non_empty_str(expected: str) -> Check:
    def check(key: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise invalid_value(key, value, expected)
        return value

    return check
