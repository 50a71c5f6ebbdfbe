"""stable-pretraining: its methods unedited, with SPCallback; in an environment of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

spt = pytest.importorskip(
    "stable_pretraining", reason="needs stable-pretraining: make framework-matrix"
)
import spt_methods  # noqa: E402
from framework_contract import check_contract  # noqa: E402
from framework_table import COLUMNS, HEADS, MATRIX  # noqa: E402
from stable_pretraining import methods  # noqa: E402


def test_every_method_is_here() -> None:
    assert set(spt_methods.METHODS) == set(methods.__all__)


@pytest.mark.parametrize("name", sorted(spt_methods.METHODS))
def test_method(name: str, table: Any, tmp_path: Path) -> None:
    cell = table(MATRIX, HEADS, ("stable-pretraining", spt.__version__, name), COLUMNS)
    check_contract(spt_methods.host(name), cell, tmp_path)
