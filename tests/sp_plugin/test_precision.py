"""Other precisions, memory formats, shapes and batch sizes; and values that are not finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import SpatialPrediction, SPConfig


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.GELU())
        self.crops: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.crops = x
        return self.body(x).mean(dim=(2, 3))


def _sp() -> SpatialPrediction:
    return SpatialPrediction(
        8,
        SPConfig(
            0.3, relative_weight=False, crop_size=16, hidden_dim=32, num_crops=2, sample_fraction=1
        ),
    )


def _images(*shape: int) -> Tensor:
    return torch.randn(shape or (6, 3, 40, 40), generator=torch.Generator().manual_seed(0))


def _net() -> Net:
    torch.manual_seed(0)
    return Net()


def _check(out, *modules: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    out.loss.backward()
    assert out.loss.isfinite() and out.loss > 0
    for name, value in out.metrics.items():
        assert value.isfinite() and value.dtype == dtype, name
    for module in modules:
        for parameter in module.parameters():
            assert parameter.grad.isfinite().all()
            assert parameter.grad.dtype == parameter.dtype
    assert any(parameter.grad.any() for parameter in modules[0].parameters())


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_autocast_keeps_the_methods_gradient(weight: float):
    """Of a forward pass that follows SP's in the same block: its weights are cast there again."""
    gradients = []
    for with_sp in (False, True):
        net = _net()
        sp = SpatialPrediction(8, SPConfig(weight, relative_weight=False, crop_size=16))
        with torch.autocast("cpu", torch.bfloat16):
            if with_sp:
                sp.configure_for(net, 40, 3)
                sp(net, _images(), step=0)
            loss = net(_images()).float().square().mean()
        loss.backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_cast_weights_kept_with_gradients():
    net, kept = _net(), []
    net.register_forward_hook(lambda *_: kept.append(torch.is_autocast_cache_enabled()))
    with torch.autocast("cpu", torch.bfloat16):
        SpatialPrediction.from_backbone(net, _images())
        assert kept and not any(kept)
        for weight in (0.0, 0.3):
            kept.clear()
            SpatialPrediction(8, SPConfig(weight, crop_size=16))(net, _images(), step=1)
            assert kept == [weight > 0]
        assert torch.is_autocast_cache_enabled()


def test_bfloat16_autocast_trains():
    net, sp = _net(), _sp()
    exact = sp(net, _images(), step=0)
    with torch.autocast("cpu", torch.bfloat16):
        out = sp(net, _images(), step=0)
        features = net(net.crops).float()
    _check(out, net, sp)
    # The head computes in float32.
    torch.testing.assert_close(out.prediction, sp.head(*features.chunk(2)), atol=1e-6, rtol=1e-6)
    assert torch.equal(out.boxes, exact.boxes) and torch.equal(out.target, exact.target)
    torch.testing.assert_close(out.loss, exact.loss, atol=0.01, rtol=0)


@pytest.mark.parametrize("head_too", [False, True])
def test_bfloat16_weights_and_images_train(head_too):
    net, sp = _net().bfloat16(), _sp()
    exact = sp(_net(), _images(), step=0)
    sp = sp.bfloat16() if head_too else sp
    out = sp(net, _images().bfloat16(), step=0)
    _check(out, net, sp)
    assert net.crops.dtype == torch.bfloat16
    assert out.target.dtype == out.prediction.dtype == torch.float32
    torch.testing.assert_close(out.target, exact.target, atol=0.02, rtol=0.01)
    torch.testing.assert_close(out.loss, exact.loss, atol=0.01, rtol=0)


@pytest.mark.parametrize("head_too", [False, True])
def test_float64_weights_and_images_train(head_too):
    net, sp = _net().double(), _sp()
    exact = sp(_net(), _images(), step=0)
    sp = sp.double() if head_too else sp
    out = sp(net, _images().double(), step=0)
    _check(out, net, sp, dtype=sp.targets.std.dtype)
    assert net.crops.dtype == torch.float64
    torch.testing.assert_close(out.loss.float(), exact.loss.float(), atol=1e-4, rtol=1e-4)


def test_crops_keep_image_memory_format():
    net, sp = _net(), _sp()
    sp(net, _images().to(memory_format=torch.channels_last), step=0)
    assert net.crops.is_contiguous(memory_format=torch.channels_last)
    sp(net, _images(), step=0)
    assert net.crops.is_contiguous()


@pytest.mark.parametrize("shape", [(6, 3, 40, 72), (6, 3, 150, 90)], ids=str)
@pytest.mark.parametrize("sharpness", ["equal", "native"])
def test_images_need_not_be_square(shape, sharpness):
    config = SPConfig(
        relative_weight=False,
        crop_size=16,
        hidden_dim=32,
        sharpness=sharpness,
        num_crops=2,
        sample_fraction=1,
    )
    net, sp = _net(), SpatialPrediction(8, config)
    _check(sp(net, _images(*shape), step=0), net, sp)
    assert net.crops.shape == (12, 3, 16, 16)


def test_one_image_trains_with_nan_r2():
    net, sp = _net(), _sp()
    out = sp(net, _images(1, 3, 40, 40), step=0)
    out.loss.backward()
    assert out.loss > 0 and out.metrics["skipped_fraction"] == 0
    assert net.body[0].weight.grad.isfinite().all() and net.body[0].weight.grad.any()
    assert all(out.metrics[f"r2_{name}"].isnan() for name in ("dx", "dy", "scale"))


class _CorruptedNet(Net):
    """Makes the features of one crop non-finite, or too large."""

    corruption: str | None = None

    def forward(self, x: Tensor) -> Tensor:
        features = super().forward(x)
        error = torch.zeros_like(features)
        if self.corruption == "inside":  # an activation overflows: its gradient is 0 x inf
            error[0] = 1e6
            return features + (features.square() * error).exp()
        values = {"inf": float("inf"), "nan": float("nan"), "large": 3e38}
        error[0] = values.get(self.corruption, 0)
        return features + error


def test_nonfinite_head_gives_zero_gradient():
    net, sp = _net(), _sp()
    with torch.no_grad():
        sp.head.mlp[0].weight.fill_(float("inf"))
    out = sp(net, _images(), step=0)
    out.loss.backward()
    assert out.loss == 0 and out.metrics["skipped_fraction"] == 1
    assert not any(parameter.grad.any() for parameter in net.parameters())


@pytest.mark.parametrize("corruption", ["inf", "nan", "large", "inside"])
def test_nonfinite_step_is_skipped(corruption):
    net, sp = _CorruptedNet(), _sp()
    net.corruption = corruption
    out = sp(net, _images(), step=0)
    host_loss = net.body(_images()).square().mean()
    expected = torch.autograd.grad(host_loss, list(net.parameters()), retain_graph=True)
    (host_loss + out.loss).backward()

    assert out.loss == 0 and out.metrics["skipped_fraction"] == 1
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)
    for parameter in sp.parameters():
        assert parameter.grad is None or not parameter.grad.any()

    net.corruption = None
    net.zero_grad()
    out = sp(net, _images(), step=1)
    assert out.metrics["skipped_fraction"] == 0
    _check(out, net, sp)
