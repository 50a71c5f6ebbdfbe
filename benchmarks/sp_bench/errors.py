"""Errors of the command line: one line and an exit code, without a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class UsageError(ValueError):
    """A setting or a file that cannot be used. The message is one line."""


class Stopped(Exception):
    """Ctrl-C or SIGTERM as an exception of our own: libraries handle KeyboardInterrupt."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Block that Ctrl-C or SIGTERM interrupts and that the same command resumes."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on from here") from None
