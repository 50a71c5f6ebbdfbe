"""Every algorithm of both frameworks by its shipped config, as in ``make mm-matrix``."""

from __future__ import annotations

import mm_matrix
import pytest

ROWS = [(framework, name) for framework, names in mm_matrix.CONFIGS.items() for name in names]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("framework", "name"), ROWS)
def test_each_algorithm_meets_contract(framework: str, name: str) -> None:
    assert mm_matrix.row_in_subprocess(framework, name) == dict.fromkeys(mm_matrix.COLUMNS, "yes")
