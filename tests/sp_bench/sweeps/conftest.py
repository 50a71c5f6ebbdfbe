"""The command line, called in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sp_bench.cli import main


def _call(*words: str) -> None:
    try:
        main(list(words))
    except SystemExit as stop:
        if stop.code:
            raise


@pytest.fixture(scope="session")
def sp_bench() -> Callable[..., None]:
    """``sp_bench("suite", ...)``; an exit code other than 0 is raised."""
    return _call
