"""A training loop without a framework, and its contract: weight 0 is the baseline, SP trains."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sp_plugin import SPSession

SIDE, STEPS = 32, 2


def batches(channels: int, size: tuple[int, int] = (SIDE, SIDE)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(4, channels, *size, generator=generator) for _ in range(STEPS)]


def train(backbone: nn.Module, views: list[Tensor], **settings: object) -> SPSession | None:
    """A loop whose method is a mean square; without settings it has no SP."""
    torch.manual_seed(0)
    session = SPSession(backbone, hidden_dim=8, **settings) if settings else None
    parameters = [*backbone.parameters(), *(session.parameters() if session else ())]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for step, view in enumerate(views):
        loss = backbone(view).square().mean()
        if session:
            loss = loss + session({"image": view}, progress=step / STEPS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return session


def check_training(backbone: nn.Module, views: list[Tensor]) -> SPSession:
    """Weight 0 leaves the baseline, and another weight changes it."""
    nets = [copy.deepcopy(backbone) for _ in range(3)]
    train(nets[0], views)
    train(nets[1], views, weight=0)
    session = train(nets[2], views, weight=1, warmup_fraction=0, relative_weight=False)
    plain, at_0, with_sp = (net.state_dict() for net in nets)
    assert all(torch.equal(plain[key], at_0[key]) for key in plain)
    assert any(not torch.equal(plain[key], with_sp[key]) for key in plain)
    assert session is not None
    return session
