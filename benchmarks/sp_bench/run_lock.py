"""A run's folder belongs to one process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sp_bench.errors import UsageError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Block in which no other process makes the run of a folder; a killed process frees it.

    Raises:
        UsageError: another process is making it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"out: another process is making {folder}; wait for it, or give another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()
