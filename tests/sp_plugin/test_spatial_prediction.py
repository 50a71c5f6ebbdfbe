"""SpatialPrediction: determinism, gradients, metrics, state and open settings."""

from __future__ import annotations

import random

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from sp_plugin import (
    ConfigError,
    SpatialPrediction,
    SpatialProbe,
    SPConfig,
    SPSession,
    SPTransform,
    TargetEncoder,
    spatial_prediction,
)
from sp_plugin.crops.boxes import cxcywh_to_xyxy, paired_iou
from sp_plugin.isolation import rng_fingerprint
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.loss import r2


class Net(nn.Module):
    """A small network with BatchNorm and dropout that keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)
        )
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x)
        return self.body(x).mean(dim=(2, 3))


def _net() -> Net:
    torch.manual_seed(0)
    return Net()


def _sp(**settings) -> SpatialPrediction:
    return SpatialPrediction(
        8,
        SPConfig.from_dict(
            {
                "crop_size": 16,
                "hidden_dim": 32,
                "sample_fraction": 1,
                "relative_weight": False,
                **settings,
            }
        ),
    )


IMAGES = torch.randn(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def _rng_states():
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), (name, tuple(keys), *rest)


def test_same_seed_rank_step_same_output():
    net, sp = _net(), _sp()
    first = sp(net, IMAGES, step=3, rank=1)
    torch.rand(7)
    again = sp(net, IMAGES, step=3, rank=1)
    assert torch.equal(first.boxes, again.boxes)
    assert torch.equal(first.prediction, again.prediction)
    assert torch.equal(first.loss, again.loss)
    assert torch.equal(*net.inputs)


@pytest.mark.parametrize("other", [{"step": 4}, {"rank": 2}, {"seed": 1}])
def test_other_seed_rank_step_other_boxes(other):
    keys = {"step": 3, "rank": 1, **other}
    sp, twin = _sp(), _sp(seed=keys.pop("seed", 0))
    one, two = sp(_net(), IMAGES, step=3, rank=1), twin(_net(), IMAGES, **keys)
    assert not torch.isclose(one.boxes, two.boxes).all(dim=-1).any()


def test_head_weights_depend_on_seed_only():
    torch.manual_seed(1)
    one = _sp().state_dict()
    torch.manual_seed(2)
    two, other = _sp().state_dict(), _sp(seed=5).state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not torch.equal(one["head.mlp.0.weight"], other["head.mlp.0.weight"])


def test_global_rng_is_unchanged():
    net = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, drop_path_rate=0.5, proj_drop_rate=0.3
    )
    images = torch.randn(4, 3, 64, 64)
    before = _rng_states()
    sp = SpatialPrediction.from_backbone(net.train(), images, SPConfig(relative_weight=False))
    assert _rng_states() == before
    sp(net, images, step=0).loss.backward()
    assert _rng_states() == before


def test_dropout_on_crops_ignores_global_rng():
    predictions = []
    for seed in (1, 2):
        net = _net()
        torch.manual_seed(seed)
        predictions.append(_sp()(net, IMAGES, step=0).prediction)
    assert torch.equal(*predictions)


def test_loss_reaches_backbone_and_head():
    net, sp = _net(), _sp(weight=0.5)
    sp(net, IMAGES, step=0).loss.backward()
    for module in (net, sp):
        for name, parameter in module.named_parameters():
            # BatchNorm cancels the bias of the convolution before it.
            assert parameter.grad.any() or name == "body.0.bias", name


def test_loss_is_weighted_pair_loss():
    sp = _sp(weight=0.5, loss="mse")
    out = sp(_net(), IMAGES, step=0)
    expected = sp.loss(out.prediction, out.target)
    torch.testing.assert_close(out.metrics["loss"], expected)
    torch.testing.assert_close(out.loss, 0.5 * expected)
    assert out.metrics["weight"] == 0.5 and out.metrics["skipped_fraction"] == 0


def test_target_matches_boxes_in_the_image():
    sp = _sp(max_iou=0.2, num_crops=2)
    out = sp(_net(), IMAGES, step=0)
    assert out.boxes.shape == (2, 6, 4)
    torch.testing.assert_close(out.target, sp.targets.encode(*out.boxes))
    assert cxcywh_to_xyxy(out.boxes).min() >= -1e-6 and cxcywh_to_xyxy(out.boxes).max() <= 1 + 1e-6
    assert (paired_iou(*out.boxes) <= 0.2 + 1e-5).all()


def test_metrics_are_detached_float32():
    out = _sp()(_net(), IMAGES, step=0)
    logged = torch.stack([out.metrics[f"r2_{name}"] for name in ("dx", "dy", "scale")])
    torch.testing.assert_close(logged, r2(out.prediction, out.target))
    for value in out.metrics.values():
        assert value.shape == () and value.dtype == torch.float32 and not value.requires_grad
    assert not out.prediction.requires_grad and not out.target.requires_grad


def test_crops_are_encoded_in_one_pass():
    net, sp = _net().eval(), _sp(sharpness="native", num_crops=2)
    out = sp(net, IMAGES, step=0)
    (crops,) = net.inputs
    assert crops.shape == (12, 3, 16, 16)
    features = net.body(crops).mean(dim=(2, 3))
    torch.testing.assert_close(out.prediction, sp.head(features[:6], features[6:]))


def test_images_get_no_gradient():
    images = IMAGES.clone().requires_grad_()
    _sp()(_net(), images, step=0).loss.backward()
    assert images.grad is None


@pytest.mark.parametrize("update_bn", [False, True])
def test_running_stats_move_with_update_bn(update_bn):
    net = _net()
    before = {name: value.clone() for name, value in net.named_buffers()}
    _sp(update_bn=update_bn)(net, IMAGES, step=0)
    changed = [name for name, value in net.named_buffers() if not torch.equal(value, before[name])]
    assert len(changed) == (len(before) if update_bn else 0)


def test_no_grad_loss_has_no_graph():
    with torch.no_grad():
        out = _sp()(_net(), IMAGES, step=0)
    assert not out.loss.requires_grad and out.loss > 0


def test_progress_changes_crop_scale():
    sp = _sp(crop_scale=((0.5, 0.6), (0.05, 0.06)), max_iou=1.0)
    first, last = (sp(_net(), IMAGES, step=0, progress=p).boxes for p in (0.0, 1.0))
    assert first[..., 2:].prod(dim=-1).min() > 0.49 and last[..., 2:].prod(dim=-1).max() < 0.07


def test_state_is_head_std_and_balance():
    sp = _sp()
    assert {name.partition(".")[0] for name, _ in sp.named_parameters()} == {"head"}
    assert [name for name, _ in sp.named_buffers()] == [
        "targets.std",
        "balance.log_ratio",
        "balance.host_sq_norm",
        "balance.sp_sq_norm",
        "balance.loss_multiplier",
    ]
    other = _sp(seed=4, crop_scale=(0.2, 0.3))
    other.load_state_dict(sp.state_dict())
    one, two = (each.state_dict() for each in (sp, other))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_configure_for_keeps_given_settings():
    net = nn.Conv2d(3, 8, 3)
    sp = SpatialPrediction(8, SPConfig(seed=3))
    assert (sp.config.crop_size, sp.config.crop_scale) == (96, (0.05, 0.32))
    head = [parameter.clone() for parameter in sp.parameters()]
    sp.configure_for(net, 64)
    assert (sp.config.crop_size, sp.config.crop_scale, sp.config.seed) == (32, (0.15, 0.32), 3)
    assert all(map(torch.equal, head, sp.parameters()))
    assert torch.equal(sp.targets.std, TargetEncoder(sp.sampler, "symmetric").std)
    sp = SpatialPrediction(8, SPConfig(crop_size=40)).configure_for(net, 64)
    assert sp.config.crop_size == 40


def test_default_device_is_ignored():
    """``torch.set_default_device`` must not move SP's draws, which are on the CPU."""
    net, images = torch.nn.Conv2d(3, 8, 3), torch.rand(2, 3, 32, 32)
    sp = SpatialPrediction.from_backbone(net, images, SPConfig(relative_weight=False))
    expected = sp(net, images, step=0)
    with torch.device("meta"):
        out = sp(net, images, step=0)
    assert torch.equal(out.boxes, expected.boxes) and torch.equal(out.loss, expected.loss)


def test_head_is_initialized_on_cpu(monkeypatch):
    """Elsewhere it would draw from that device's global generator."""
    devices = []

    def build(*args):
        devices.append(torch.empty(0).device.type)
        return SPHead(*args)

    monkeypatch.setattr(spatial_prediction, "SPHead", build)
    with torch.device("meta"):
        sp = SpatialPrediction(8)
    assert devices == ["cpu"] and {p.device.type for p in sp.parameters()} == {"meta"}


def test_default_device_changes_no_draw():
    """Under an ambient device, as in Lightning's `configure_model`, all is as without."""
    images, drawn = torch.rand(4, 3, 64, 64), []
    for device in ("cpu", "meta"):
        torch.manual_seed(0)
        backbone, transform = nn.Conv2d(3, 8, 3), SPTransform(lambda image: image, crop_size=16)
        with torch.device(device):
            session = SPSession(backbone, weight=1, sample_fraction=1)
            heads = SpatialProbe(backbone).state_dict()["heads"].values()
            boxes = session(images).boxes, transform(images[0])["sp"]["boxes"]
            fingerprint = rng_fingerprint()
        drawn.append((*boxes, *session.parameters(), *heads))
        assert rng_fingerprint() == fingerprint
    torch.testing.assert_close(*drawn, rtol=0, atol=0)


def test_backbone_on_meta_is_measured():
    with torch.device("meta"):
        backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))
    sp = SpatialPrediction.from_backbone(backbone)
    assert sp.feature_dim == 8 and {p.device.type for p in sp.parameters()} == {"meta"}


@pytest.mark.parametrize("is_relative", (True, False))
def test_frozen_head_is_refused(is_relative):
    sp = SpatialPrediction(16, SPConfig(crop_size=8, relative_weight=is_relative))
    sp.head.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"^head: got frozen parameters, takes some"):
        sp(nn.Conv2d(3, 16, 3), torch.rand(4, 3, 16, 16), step=0)


def test_backbone_on_another_device_is_named():
    backbone, images = nn.Conv2d(3, 16, 3), torch.rand(4, 3, 16, 16)
    sp = SpatialPrediction.from_backbone(backbone, images).to("meta")  # as GPU and CPU differ
    with pytest.raises(ConfigError, match=r"^backbone: gives features on cpu, but SP is on meta"):
        sp(backbone, images, step=0)
