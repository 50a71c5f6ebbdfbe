"""frozen_running_stats: buffers stay unchanged, outputs and gradients do too."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, SplitBatchNorm2d
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm

from sp_plugin.isolation import frozen_running_stats


class _IgnoresTrackingFlag(nn.BatchNorm2d):
    """Updates its statistics in a forward of its own, like some distributed norms."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
        with torch.no_grad():
            self.running_mean += 0.1 * (mean - self.running_mean)
            self.running_var.lerp_(var, 0.1)
            self.num_batches_tracked += 1
        scale, shift = self.weight[:, None, None], self.bias[:, None, None]
        return (x - mean[:, None, None]) / (var[:, None, None] + self.eps).sqrt() * scale + shift


class _CountsCalls(nn.Module):
    """One buffer that is updated in place, and one that is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=(0, 2, 3))
        return x + self.mean[:, None, None]


def _convolution(norm) -> nn.Module:
    return norm(nn.Conv2d(4, 4, 3, padding=1))


NORMS = {
    "BatchNorm1d": lambda: nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(4), nn.Unflatten(2, (6, 6))),
    "BatchNorm2d": lambda: nn.BatchNorm2d(4),
    "momentum None": lambda: nn.BatchNorm2d(4, momentum=None),
    "not affine": lambda: nn.BatchNorm2d(4, affine=False),
    "not tracking": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "InstanceNorm": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "timm's BatchNormAct2d": lambda: BatchNormAct2d(4),
    "timm's SplitBatchNorm2d": lambda: SplitBatchNorm2d(4),
    "ignores the tracking flag": lambda: _IgnoresTrackingFlag(4),
    "counting": _CountsCalls,
    "old spectral norm": lambda: _convolution(old_spectral_norm),
    "spectral norm": lambda: _convolution(parametrizations.spectral_norm),
}
each_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)


def _net(norm) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm(), nn.Conv2d(4, 2, 1))


def _buffers(net: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in net.named_buffers()}


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _loss_and_gradients(net: nn.Module, x: Tensor) -> list[Tensor]:
    loss = net(x).square().mean() + net(x + 1).abs().mean()  # two forward passes
    return [loss, *torch.autograd.grad(loss, list(net.parameters()))]


@each_norm
def test_buffers_keep_values_and_identity(norm):
    net = _net(norm)
    net(torch.randn(4, 3, 6, 6))
    before, objects = _buffers(net), [id(buffer) for buffer in net.buffers()]
    with frozen_running_stats(net):
        net(torch.randn(4, 3, 6, 6) + 5)
    assert _equal(before, _buffers(net))
    assert [id(buffer) for buffer in net.buffers()] == objects


@each_norm
def test_loss_and_gradients_are_unchanged(norm):
    x = torch.randn(4, 3, 6, 6)
    unguarded, guarded = _net(norm), _net(norm)
    expected = _loss_and_gradients(unguarded, x)
    with frozen_running_stats(guarded):
        actual = _loss_and_gradients(guarded, x)
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)


@each_norm
def test_backward_works_after_the_block(norm):
    net = _net(norm)
    x = torch.randn(4, 3, 6, 6)
    host_loss = net(x).square().mean()  # the host's own forward pass, with the same weights
    with frozen_running_stats(net):
        sp_loss = net(x + 1).square().mean()
    (host_loss + sp_loss).backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    assert net[0].weight.grad.any()


@each_norm
def test_next_host_step_updates_statistics(norm):
    x = torch.randn(4, 3, 6, 6)
    unguarded, guarded = _net(norm), _net(norm)
    unguarded(x)
    with frozen_running_stats(guarded):
        guarded(x + 3)
    guarded(x)
    assert _equal(_buffers(unguarded), _buffers(guarded))


@each_norm
def test_exception_leaves_no_trace(norm):
    net = _net(norm)
    net(torch.randn(4, 3, 6, 6))
    before = _buffers(net)
    with pytest.raises(KeyError), frozen_running_stats(net):
        net(torch.randn(4, 3, 6, 6))
        raise KeyError
    assert _equal(before, _buffers(net))
    flags = [getattr(part, "track_running_stats", None) for part in net.modules()]
    fresh = [getattr(part, "track_running_stats", None) for part in _net(norm).modules()]
    assert flags == fresh


def test_batch_statistics_are_used_inside():
    norm = nn.BatchNorm2d(3)
    norm.running_mean.fill_(100)
    with frozen_running_stats(norm):
        out = norm(3 * torch.randn(8, 3, 5, 5) + 7)
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.var(dim=(0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d, _IgnoresTrackingFlag])
def test_eval_mode_norm_stays_in_eval_mode(kind):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), kind(3)).train()
    net[1].eval()
    net[1].running_mean.fill_(0.5)
    x = torch.randn(4, 3, 5, 5)
    expected = net(x)
    with frozen_running_stats(net):
        out = net(x)
    assert torch.equal(out, expected) and not net[1].training


def test_counter_is_frozen_if_momentum_none():
    norm = nn.BatchNorm2d(3, momentum=None)
    batches = torch.randn(3, 8, 3, 5, 5)
    norm(batches[0])
    with frozen_running_stats(norm):
        norm(batches[1])
    norm(batches[2])
    assert norm.num_batches_tracked == 2
    mean = batches[[0, 2]].mean(dim=(0, 1, 3, 4))
    torch.testing.assert_close(norm.running_mean, mean, atol=1e-5, rtol=0)


def test_sync_bn_tracking_is_off_inside():
    norm = nn.SyncBatchNorm(3)
    with frozen_running_stats(norm):
        assert not norm.track_running_stats
    assert norm.track_running_stats
    with frozen_running_stats(norm.eval()):
        assert norm.track_running_stats


def test_guards_nest():
    net = _net(NORMS["BatchNorm2d"])
    before = _buffers(net)
    with frozen_running_stats(net):
        with frozen_running_stats(net):
            net(torch.randn(4, 3, 6, 6))
        net(torch.randn(4, 3, 6, 6))
    assert _equal(before, _buffers(net)) and net[1].track_running_stats


def test_a_network_can_be_copied_afterwards():
    net = timm.create_model("resnet10t", pretrained=False)
    with frozen_running_stats(net):
        net(torch.randn(2, 3, 32, 32)).sum().backward()
    twin = copy.deepcopy(net)
    assert _equal(_buffers(net), _buffers(twin))
