"""Images of any number of channels, through solo-learn's own method, backbones and Trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_bands_train_weight_0_is_baseline(solo: Any, tmp_path: Path) -> None:
    folder = solo.root / "scripts" / "pretrain" / "cifar"
    channels = ("1", "2", "3", "4", "6", "13")
    script = HERE / "bands.py"
    ran = solo.script(str(script), [str(folder), *channels], tmp_path, solo.root)
    rows = json.loads(ran.stdout.splitlines()[-1])
    assert len(rows) == 2 * len(channels)
    for name, (is_baseline, is_untrained, found) in rows.items():
        assert is_baseline and not is_untrained, name
        assert found == int(name.rpartition("-")[2]), name
