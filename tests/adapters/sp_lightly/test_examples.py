"""Every Lightning example of lightly, unedited; needs a checkout, for its own sake.

``make lightly-examples LIGHTLY=/path/to/lightly`` runs them all and prints the table.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from sp_lightning.student import find_student_name

from sp_plugin import SpatialPrediction

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("LIGHTLY") or "/nowhere") / "examples" / "pytorch_lightning"
# A file with nothing in it but a comment is no example.
EXAMPLES = sorted(p for p in FOLDER.glob("*.py") if "Trainer(" in p.read_text())
COLUMNS = ("baseline", "SP on the view", "SP on the image", "SP on its own views", "weight 0")
# Refusals of methods whose student is not called on two views as they are. AIM calls its student on
# one, by a method of its own; to call it fails in timm, and that is what is said of it.
NO_TWO_VIEWS = (
    "ConfigError: source: got 'host_views'",
    "MaskedCausalVisionTransformer takes no crops",
)
LAYERS = {"ibot": "vit.norm"}  # its student is called by a method of its own

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not EXAMPLES,
        reason="needs lightly's examples: git clone https://github.com/lightly-ai/lightly, then "
        "LIGHTLY=/path/to/lightly make lightly-examples",
    ),
]


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_trains_with_sp(path: Path, tmp_path: Path, table: Any) -> None:
    cell = table("lightly's Lightning examples", ("example",), (path.stem,), COLUMNS)

    def run(mode: str, *more: str) -> Any:
        out = tmp_path / f"{mode}.pt"
        ran = subprocess.run(
            [sys.executable, HERE / "run_example.py", path, out, mode, *more],
            cwd=tmp_path, capture_output=True, text=True, timeout=600,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        last = ran.stderr.strip().rpartition("\n")[2]
        if mode == "host" and any(reason in last for reason in NO_TWO_VIEWS):
            return None
        assert ran.returncode == 0, ran.stderr[-3000:]
        return torch.load(out)

    baseline = run("off")
    cell("baseline", "runs")
    modes = {"on": (), "image": (), "host": (LAYERS[path.stem],) if path.stem in LAYERS else ()}
    for (mode, more), column in zip(modes.items(), COLUMNS[1:4], strict=True):
        on = run(mode, *more)
        if on is None:
            cell(column, "no two views")
            continue
        fresh = SpatialPrediction(on["width"]).head.state_dict()
        moved = [not torch.equal(value, on["sp"][f"head.{key}"]) for key, value in fresh.items()]
        assert all(moved) and on["steps"] == 2
        cell(column, f"head moved ({on['student']})")
    zero = run("zero")
    assert zero["state"].keys() == baseline["state"].keys()
    for key, value in baseline["state"].items():
        assert torch.equal(value, zero["state"][key]), key
    cell("weight 0", "identical")


def test_student_found_in_each_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of benchmarks/imagenet, where an EMA teacher often is the part called ``backbone``."""
    found = {}
    for path in sorted(FOLDER.parents[1].glob("benchmarks/imagenet/*/*.py")):
        if path.stem in ("main", "finetune_eval", "knn_eval", "linear_eval"):
            continue
        monkeypatch.syspath_prepend(path.parent)
        spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (host,) = (
            value
            for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == module.__name__
            if issubclass(value, LightningModule)
        )
        wanted = {"batch_size_per_device": 4, "num_classes": 10, "knn_k": 20, "knn_t": 0.1}
        takes = inspect.signature(host.__init__).parameters
        made = host(**{key: value for key, value in wanted.items() if key in takes})
        found[f"{path.parent.name}/{path.stem}"] = find_student_name(made)
    apart = {"resnet50/dino", "vitb16/capi", "vitb16/dino", "vitb16/dinov2", "vitb16/ibot"}
    assert {name for name, student in found.items() if student == "student_backbone"} == apart
    assert len(found) >= 19 and set(found.values()) == {"backbone", "student_backbone"}
