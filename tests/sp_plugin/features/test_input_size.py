"""The crop size that a backbone takes, found without changing the backbone."""

from __future__ import annotations

import logging
import random

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from sp_plugin import ConfigError, SpatialPrediction, SPConfig
from sp_plugin.features.extraction import extract_features
from sp_plugin.features.input_size import find_input_size

LOG_LINE = "SP: crops are resized to 32 px, which the backbone takes, not 48"


def _vit(**settings) -> nn.Module:
    settings = {"img_size": 32, "depth": 1, **settings}
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, **settings)


def _size_and_width(net: nn.Module, preferred: int) -> tuple[int, int]:
    spec = find_input_size(net, preferred)
    return spec.input_size, spec.feature_dim


class _FixedSizes(nn.Module):
    """Takes crops of certain sides, and raises the given error for others."""

    def __init__(self, *sides: int, error: Exception | None = None) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 5, 1)
        self.sides, self.error, self.tried_sizes = sides, error, []

    def forward(self, x: Tensor) -> Tensor:
        self.tried_sizes.append(x.shape[-1])
        if x.shape[-1] not in self.sides:
            raise self.error or RuntimeError("no")
        return self.body(x)


def test_preferred_size_is_used_if_accepted():
    net = _FixedSizes(*range(1, 600))
    assert _size_and_width(net, 47) == (47, 5)
    assert set(net.tried_sizes) == {47}


@pytest.mark.parametrize(
    ("preferred", "sides", "found"),
    [(33, (42, 64, 224), 42), (33, (40, 42), 40), (60, (64, 224), 64), (96, (224,), 224)],
)
def test_next_accepted_size_is_found(preferred, sides, found):
    assert find_input_size(_FixedSizes(*sides), preferred).input_size == found


def test_backbone_img_size_is_used():
    net = nn.Sequential(_FixedSizes(77))
    net[0].img_size = (77, 77)
    assert _size_and_width(net, 48) == (77, 5)


@pytest.mark.parametrize(
    "error",
    [AssertionError(), RuntimeError("a\nb"), ValueError("c"), IndexError("d"), TypeError("e")],
)
def test_any_exception_rejects_a_size(error):
    assert find_input_size(_FixedSizes(224, error=error), 48).input_size == 224
    with pytest.raises(ConfigError) as caught:
        find_input_size(_FixedSizes(error=error), 48)
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    assert str(caught.value) == f"backbone: _FixedSizes takes no crops of 48 px: {reason}"
    assert caught.value.__cause__ is error


def test_lazy_layers_are_refused():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ConfigError, match=r"0\.weight of Sequential is of a lazy layer") as caught:
        find_input_size(net, 48)
    assert "\n" not in str(caught.value)
    net(torch.rand(2, 3, 48, 48))
    assert find_input_size(net, 48).feature_dim == 4


def test_wrong_setting_is_not_a_size_error():
    net = _FixedSizes(48, 224)
    with pytest.raises(ConfigError, match=r"^layer: the backbone has no 'bod'; did you mean"):
        find_input_size(net, 48, layer="bod")
    assert net.tried_sizes == []
    net.body = nn.Conv2d(3, 4, 1)
    with pytest.raises(ConfigError, match=r"^pool: got 'cls'"):
        find_input_size(nn.Sequential(net, nn.Flatten(2)), 48, "cls")
    assert 224 not in net.tried_sizes


def test_fixed_size_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, "sp_plugin"):
        net, images = _vit(), torch.randn(2, 3, 96, 96)
        sp = SpatialPrediction.from_backbone(net, images, SPConfig(relative_weight=False))
        sp.configure_for(net, 96)
        SpatialPrediction.from_backbone(net, images, SPConfig(relative_weight=False))
    assert [record.getMessage() for record in caplog.records] == [LOG_LINE]
    assert sp.config.crop_size == 32
    assert sp(net, images, step=0).loss.isfinite()
    with caplog.at_level(logging.INFO, "sp_plugin"):
        SpatialPrediction.from_backbone(_vit(), images, SPConfig(relative_weight=False))
    assert [record.getMessage() for record in caplog.records] == [LOG_LINE, LOG_LINE]


def test_fitting_size_is_not_logged(caplog):
    with caplog.at_level(logging.DEBUG, "sp_plugin"):
        find_input_size(_vit(), 32)
        find_input_size(_vit(dynamic_img_size=True), 48)
    assert not caplog.records


def test_fixed_size_swin_gets_its_crop_size(caplog):
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", pretrained=False, img_size=128, depths=(1, 1, 1, 1)
    )
    images = torch.randn(2, 3, 96, 96)
    sp = SpatialPrediction.from_backbone(swin, images, SPConfig(relative_weight=False))
    assert sp.config.crop_size == 128 and len(caplog.records) == 1
    out = sp(swin, images, step=0)
    out.loss.backward()
    assert swin.patch_embed.proj.weight.grad.any()


def _torchvision_vit() -> nn.Module:
    net = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=24, mlp_dim=32
    )
    net.heads = nn.Identity()
    return net


def _resnet18() -> nn.Module:
    net = torchvision.models.resnet18(weights=None)
    net.fc = nn.Identity()
    return net


TORCHVISION = {
    "resnet18": (_resnet18, 48, 512),
    "vit": (_torchvision_vit, 32, 24),
    "swin_t": (lambda: torchvision.models.swin_t(weights=None).features, 48, 768),
    "convnext_tiny": (lambda: torchvision.models.convnext_tiny(weights=None).features, 48, 768),
    "mobilenet_v3": (lambda: torchvision.models.mobilenet_v3_small(weights=None).features, 48, 576),
}


@pytest.mark.parametrize(("build", "size", "width"), TORCHVISION.values(), ids=TORCHVISION)
def test_torchvision_models_train(build, size, width):
    net, images = build(), torch.randn(2, 3, 96, 96)
    sp = SpatialPrediction.from_backbone(net, images, SPConfig(relative_weight=False))
    assert (sp.config.crop_size, sp.feature_dim) == (size, width)
    sp(net, images, step=0).loss.backward()
    weights = [p.grad for p in net.parameters() if p.ndim > 1 and p.grad is not None]
    assert weights[0].any() and weights[-1].any()
    with torch.no_grad():
        output = net.eval()(images[..., :size, :size])
        features = extract_features(net, images[..., :size, :size])
    if output.ndim == 4:
        output = output.mean(dim=(2, 3) if output.shape[1] == width else (1, 2))
    torch.testing.assert_close(features, output)


class _Stateful(nn.Module):
    """Draws random numbers and rebuilds a buffer at each size, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.Dropout())
        self.register_buffer("table", torch.zeros(1))
        self.body[1].eval()

    def forward(self, x: Tensor) -> Tensor:
        random.random()
        self.table = torch.rand(x.shape[-1])
        return self.body(x)


def test_probe_has_both_modes_and_no_grad():
    net, modes = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Dropout()), []
    net[1].register_forward_pre_hook(
        lambda part, _: modes.append((part.training, torch.is_grad_enabled()))
    )
    find_input_size(net, 32)
    assert set(modes) == {(False, False), (True, False)}
    modes.clear()
    find_input_size(net, 32, in_training=False)
    assert set(modes) == {(False, False)}


@pytest.mark.parametrize("training", [True, False])
def test_probe_leaves_backbone_and_rng(training):
    net = _Stateful()
    net.training = training
    net.body[0].weight.requires_grad_(False)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [part.training for part in net.modules()]
    trainable = [parameter.requires_grad for parameter in net.parameters()]
    rng_states = torch.get_rng_state(), random.getstate()

    sp = SpatialPrediction.from_backbone(
        net, torch.randn(0, 3, 40, 40), SPConfig(relative_weight=False)
    )

    assert (sp.feature_dim, sp.config.crop_size) == (5, 20)
    assert torch.equal(torch.get_rng_state(), rng_states[0])
    assert random.getstate() == rng_states[1]
    assert [part.training for part in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == trainable
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_probe_uses_backbone_precision():
    assert _size_and_width(nn.Conv2d(3, 8, 3).double(), 32) == (32, 8)
    assert _size_and_width(nn.Conv2d(3, 8, 3).bfloat16(), 32) == (32, 8)


def test_backbone_without_weights_is_probed():
    assert _size_and_width(nn.Flatten(), 8) == (8, 8 * 8 * 3)
