"""The ready scripts of ``configs/lightly`` and the plain loop, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sp_plugin.bundled_configs import folder

SCRIPTS = sorted(p.stem for p in folder("lightly").glob("*.py") if p.stem != "common")
QUICK = ("simclr", "mae")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    (root / "a").mkdir()
    for seed in range(8):
        coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((48, 40)).save(root / "a" / f"{seed}.png")
    return root


def run_python(cwd: Path, *command: object) -> str:
    cwd.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd, capture_output=True, text=True, timeout=250,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_each_method_family_has_a_script() -> None:
    assert SCRIPTS == ["byol", "dino", "mae", "moco", "simclr", "swav", "vicreg"]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in SCRIPTS]
)
def test_script_trains_weight_0_is_baseline(name: str, image_folder: Path, tmp_path: Path) -> None:
    small = ("--side", 32, "--batch-size", 4, "--epochs", 1, "--workers", 0)
    script = folder("lightly") / f"{name}.py"
    states = {}
    for arm in ((), ("--sp", 0, "--source", "image"), ("--sp", 1)):
        run_python(
            cwd := tmp_path / f"arm{len(states)}", script, "--data", image_folder, *small, *arm
        )
        (checkpoint,) = cwd.glob("lightning_logs/**/*.ckpt")
        states[len(states)] = torch.load(checkpoint, weights_only=True)["state_dict"]
    baseline, zero, on = states.values()
    assert baseline.keys() == zero.keys() == on.keys()
    assert all(torch.equal(value, zero[key]) for key, value in baseline.items())
    assert not all(torch.equal(value, on[key]) for key, value in baseline.items())


def test_plain_torch_example_runs(image_folder: Path, tmp_path: Path) -> None:
    script = ROOT / "examples" / "plain_torch.py"
    assert len(script.read_text().splitlines()) <= 60
    small = script.read_text().replace("64, 64, 10", "32, 4, 2")
    (tmp_path / "small.py").write_text(small)
    printed_lines = {
        w: run_python(tmp_path, "small.py", image_folder, w).splitlines() for w in (0, 1)
    }
    assert len(printed_lines[0]) == len(printed_lines[1]) == 2
    first, last = (float(line.split("SP ")[1]) for line in printed_lines[1])
    assert 0 < last < 2 and 0 < first < 2
