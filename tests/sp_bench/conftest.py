"""A small demo: the images of the whole one take longer to make than most tests to run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sp_bench.data import demo


@pytest.fixture(scope="session", autouse=True)
def small_demo() -> Iterator[None]:
    """60 training and 20 test images, where a test does not give its own number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "DEMO_SIZE", 60)
        yield
