"""The notebooks are committed as they ran, from the first cell to the last, without an error.

``make notebooks`` runs them, for some minutes; here their outputs are read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from code_blocks import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    path: Path = request.param
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["how_much_where", "sp_in_ten_minutes"]


def test_every_cell_ran_in_order(cells: list[dict[str, Any]]) -> None:
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_outputs_have_no_errors(cells: list[dict[str, Any]]) -> None:
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs and not [output for output in outputs if output["output_type"] == "error"]


def test_outputs_have_no_warnings_or_paths(cells: list[dict[str, Any]]) -> None:
    streams = [o for cell in cells for o in cell["outputs"] if o["output_type"] == "stream"]
    assert [o for o in streams if o["name"] == "stderr"] == []
    text = "".join("".join(o["text"]) for o in streams)
    assert "site-packages" not in text and "/home" not in text and "/root" not in text
