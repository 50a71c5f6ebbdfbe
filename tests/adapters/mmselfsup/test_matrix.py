"""Every algorithm of both hosts by its shipped config; ``make mm-matrix`` prints the same."""

from __future__ import annotations

import mm_matrix
import pytest

ROWS = [(host, name) for host, names in mm_matrix.CONFIGS.items() for name in names]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("host", "name"), ROWS)
def test_baseline_and_sp_train_and_weight_0_is_the_baseline(host: str, name: str) -> None:
    assert mm_matrix.row_apart(host, name) == dict.fromkeys(mm_matrix.COLUMNS, "yes")
