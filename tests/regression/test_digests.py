"""No number that the plug-in computes has changed since the digests were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import digests
import pytest

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("digests.json").read_text())


@pytest.fixture(scope="module")
def same_platform() -> None:
    """Skip on another CPU or with other versions: rounding depends on the kernels in use."""
    if differences := digests.platform_differences(RECORDED["platform"]):
        pytest.skip(f"digests hold for another platform; {'; '.join(differences)}")


def test_every_case_is_recorded() -> None:
    assert list(RECORDED["cases"]) == list(digests.CASES)


@pytest.mark.parametrize("case", RECORDED["cases"])
def test_digest(case: str, same_platform: None) -> None:
    if digests.needs_mm(case):
        pytest.importorskip("mmselfsup", reason="pip install sp-plugin[mmselfsup]")
    lines = digests.differences(RECORDED["cases"][case], digests.run_case(case))
    assert not lines, "\n".join([case, *lines])
