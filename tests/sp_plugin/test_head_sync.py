"""A plain loop on two ranks, with DDP round the backbone alone: the heads stay equal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import free_port
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from sp_plugin import SPSession
from sp_plugin.head_sync import HeadSync

STEPS = 4


def train(rank: int, port: str, folder: Path, case: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    ddp = DistributedDataParallel(backbone)
    settings: dict[str, Any] = {"hidden_dim": 8, "warmup_fraction": 0.0}
    sp = SPSession(ddp, sync_head=case != "off", seed=rank if case == "seeds" else 0, **settings)
    optimizer = torch.optim.AdamW([*ddp.parameters(), *sp.parameters()], 1e-2)
    torch.manual_seed(rank)
    for step in range(STEPS):
        for _ in range(2 if case == "accumulated" else 1):
            images = torch.rand(4, 3, 24, 24)
            loss = ddp(images).square().mean() + sp(images, progress=step / STEPS).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    hooks = [p._post_accumulate_grad_hooks for p in sp.parameters()]
    state = {"head": sp.sp.state_dict(), "backbone": backbone.state_dict(), "hooks": any(hooks)}
    torch.save(state, folder / f"{case}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    "case",
    [
        "plain",
        pytest.param("accumulated", marks=pytest.mark.slow),
        pytest.param("seeds", marks=pytest.mark.slow),
        pytest.param("off", marks=pytest.mark.slow),
    ],
)
def test_heads_of_two_ranks_stay_equal(case: str, tmp_path: Path):
    arguments = (free_port(), tmp_path, case)
    multiprocessing.start_processes(train, arguments, nprocs=2, start_method="fork")
    one, other = (torch.load(tmp_path / f"{case}-{rank}.pt") for rank in range(2))
    for part in ("backbone", "head"):
        equal = [torch.equal(value, other[part][name]) for name, value in one[part].items()]
        assert all(equal) == (case != "off" or part == "backbone")
    assert one["hooks"] == (case != "off")


def test_gradient_is_the_mean_of_the_ranks(monkeypatch):
    head = nn.Linear(2, 1)
    monkeypatch.setattr(distributed, "broadcast", lambda value, src: None)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    # The other rank has three times this one's gradient.
    monkeypatch.setattr(distributed, "all_reduce", lambda grad: grad.mul_(4))
    sync = HeadSync(head)
    head(torch.ones(1, 2)).sum().backward()
    assert head.weight.grad.tolist() == [[2.0, 2.0]]
    sync.remove()
    head.weight.grad = None
    head(torch.ones(1, 2)).sum().backward()
    assert head.weight.grad.tolist() == [[1.0, 1.0]]


def test_one_process_syncs_nothing():
    session = SPSession(nn.Conv2d(3, 4, 3), hidden_dim=8)
    session(torch.rand(2, 3, 24, 24))
    assert session._head_sync is None
