"""What the user has to mend: one clear line, exit code 2, never a traceback."""

from __future__ import annotations


class UsageError(ValueError):
    """A setting or a file that cannot be used. The message is one line."""


class Stopped(Exception):
    """Ctrl-C, as an error of our own: command line libraries each end it in their own way."""
