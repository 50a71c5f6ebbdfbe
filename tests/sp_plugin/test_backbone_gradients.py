"""Gradients at the backbone: those that are there stay, and FSDP2 gives what one process does."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.fsdp
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh

from sp_plugin import SPSession
from sp_plugin.backbone_gradients import gradients_of_loss, on_next_gradient

STEPS = 4
fully_shard = getattr(distributed.fsdp, "fully_shard", None)  # of PyTorch 2.6
needs_fsdp2 = pytest.mark.skipif(fully_shard is None, reason="needs fully_shard (torch>=2.6)")


def train(is_sharded: bool, accumulate: int) -> list[Tensor]:
    """The scale of SP's loss after each step, and at the end the backbone's weights."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3)).double()
    sp = SPSession(net, relative_weight=True, hidden_dim=8, warmup_fraction=0)
    if is_sharded:
        mesh = init_device_mesh("cpu", (2,))
        for module in (net[0], net[2], net):
            fully_shard(module, mesh=mesh)
    optimizer = torch.optim.SGD([*net.parameters(), *sp.parameters()], lr=1e-3)
    scales = []
    for step in range(STEPS):
        images = torch.rand(8, 3, 32, 32, dtype=torch.float64)
        loss = (net(images).mean((0, 2, 3)) - torch.arange(8)).square().mean()
        # Both ranks take the crops of the first, so that their mean is what one process has.
        loss = loss + sp(images, progress=0.5, rank=0).loss
        if step % accumulate == 0:
            optimizer.zero_grad()
        loss.backward()
        if (step + 1) % accumulate == 0:
            optimizer.step()
        scales.append(sp.sp.balance.loss_scale)
    weights = [p.full_tensor() if is_sharded else p for p in net.parameters()]
    return [torch.stack(scales), *(weight.detach() for weight in weights)]


def train_sharded(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.save([train(True, accumulate) for accumulate in (1, 3)], folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[list[Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(train_sharded, (folder,), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@needs_fsdp2
@pytest.mark.parametrize(("index", "accumulate"), [(0, 1), (1, 3)])
def test_shards_get_one_process_weight(index: int, accumulate: int, two_ranks):
    expected = train(False, accumulate)
    assert (expected[0][1:] > 0).all() and expected[0].unique().numel() == 3
    for rank in two_ranks:
        for value, of_one in zip(rank[index], expected, strict=True):
            torch.testing.assert_close(value, of_one, rtol=1e-5, atol=1e-9)


def test_gradients_that_are_there_stay():
    backbone, head = nn.Linear(2, 1), nn.Linear(1, 1)
    head(backbone(torch.ones(1, 2))).sum().backward()
    before = [p.grad.clone() for p in (*backbone.parameters(), *head.parameters())]
    loss = head(backbone(torch.ones(1, 2))).square().sum()
    reached = gradients_of_loss(loss, backbone, head, retain_graph=False)
    assert [p for p, _ in reached] == list(backbone.parameters())
    after = [p.grad for p in (*backbone.parameters(), *head.parameters())]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_next_gradient_is_what_is_added():
    layer, seen = nn.Linear(2, 1, bias=False), []
    layer(torch.ones(1, 2)).sum().backward()
    handle = on_next_gradient(layer.weight, lambda grad: seen.append(grad.clone()))
    (3 * layer(torch.ones(1, 2))).sum().backward()
    handle.remove()
    layer(torch.ones(1, 2)).sum().backward()
    assert [grad.tolist() for grad in seen] == [[[3.0, 3.0]]]
