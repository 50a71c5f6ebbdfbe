"""What the user has to mend: one clear line, exit code 2, never a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class UsageError(ValueError):
    """A setting or a file that cannot be used. The message is one line."""


class Stopped(Exception):
    """Ctrl-C, as an error of our own: command line libraries each end it in their own way."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Work that Ctrl-C interrupts and the same command takes up again."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on from here") from None
