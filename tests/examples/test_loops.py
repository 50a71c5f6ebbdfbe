"""The loops of examples/ on two ranks: SP trains, and model and head are the same on both."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import forget_accelerate, free_port
from small_data import make_images
from torch import distributed, multiprocessing, nn

from sp_plugin import SPSession

EXAMPLES = Path(__file__).parents[2] / "examples"
SIDE, BATCH, EPOCHS = 32, 4, 3
LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddp": ("with_ddp", {}),
    "accelerate": ("with_accelerate", {"cpu": True}),
    "accelerate, bf16": (
        "with_accelerate",
        {"cpu": True, "mixed_precision": "bf16", "gradient_accumulation_steps": 2},
    ),
    "fabric": ("with_fabric", {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}),
    "fabric, bf16": (
        "with_fabric",
        {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "precision": "bf16-mixed"},
    ),
}
PACKAGES = {"with_accelerate": "accelerate", "with_fabric": "lightning_fabric"}


def small_backbone() -> nn.Module:
    """What resnet18 is replaced by: of its width, and small."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 512, 3, 2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip


def train(rank: int, port: str, folder: Path, loop: str) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), LOCAL_RANK=str(rank),
        WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", NODE_RANK="0", ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    torch.set_num_threads(1)
    sys.path.insert(0, str(EXAMPLES))
    simclr = importlib.import_module("simclr")
    name, options = LOOPS[loop]
    script = importlib.import_module(name)
    if name == "with_accelerate":
        forget_accelerate()
    simclr.augment.transforms[0].size = (SIDE, SIDE)
    simclr.BATCH, simclr.EPOCHS, simclr.resnet18 = BATCH, EPOCHS, small_backbone
    model, sp = script.main(str(folder / "images"), **options)
    assert distributed.get_world_size() == 2 and sp.config.relative_weight
    states = {"model": model.state_dict(), "head": sp.sp.state_dict(), "step": sp.step}
    torch.save(states, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    "loop", [pytest.param(one, marks=[pytest.mark.slow] * (one != "ddp")) for one in LOOPS]
)
def test_two_ranks_train_alike(loop: str, tmp_path: Path):
    if package := PACKAGES.get(LOOPS[loop][0]):
        pytest.importorskip(package, reason=f"needs {package} (pip install {package})")
    make_images(tmp_path / "images", count=8)
    arguments = (free_port(), tmp_path, loop)
    multiprocessing.start_processes(train, arguments, nprocs=2, start_method="fork")
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one["step"] == 2 * EPOCHS
    for part in ("model", "head"):
        assert all(torch.equal(value, other[part][name]) for name, value in one[part].items())
    assert one["head"]["balance.log_ratio"].isfinite()  # both gradients were measured


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize("has_wrapper", [True, False])
def test_relative_weight_in_fabric(precision: str, has_wrapper: bool):
    fabric_module = pytest.importorskip("lightning_fabric", reason="needs lightning-fabric")
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1, precision=precision)
    backbone = small_backbone()
    wrapped, optimizer = fabric.setup(backbone, torch.optim.SGD(backbone.parameters(), lr=0.01))
    sp = SPSession(wrapped if has_wrapper else backbone, weight=1.0)
    for step in range(4):
        images = torch.rand(4, 3, SIDE, SIDE)
        with fabric.autocast():
            out = sp(images, progress=step / 4)
        optimizer.zero_grad()
        fabric.backward(wrapped(images).square().mean() + out.loss)
        optimizer.step()
    assert sp.sp.balance.log_ratio.isfinite()
