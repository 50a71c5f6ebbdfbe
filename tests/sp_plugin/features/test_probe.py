"""What a backbone gives in evaluation and training mode: masks, auxiliary outputs, axes."""

from __future__ import annotations

import random

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from sp_plugin import ConfigError, SpatialPrediction, SPConfig, SPSession
from sp_plugin.features.extraction import extract_features
from sp_plugin.features.input_size import find_input_size
from sp_plugin.isolation import private_rng

CROPS = torch.rand(2, 3, 32, 32)


class MaskedNet(nn.Module):
    """Sees a random part of the patches of 8 px, like an MAE.

    Args:
        keep: number of patches that it sees.
        conv: whether the patch embedding is a convolution, which shows the side of a patch.
    """

    def __init__(self, keep: int, conv: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 8, 8) if conv else nn.Conv2d(3, 6, 1)
        self.keep, self.fails = keep, False

    def kept(self, count: int) -> int:
        return self.keep

    def patches(self, x: Tensor) -> Tensor:
        patches = nn.functional.adaptive_avg_pool2d(self.embed(x), x.shape[-1] // 8)
        return patches.flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise RuntimeError("inside")
        patches = self.patches(x)
        count = patches.shape[1]
        patches = patches[:, torch.randperm(count)[: self.kept(count)]]
        return torch.cat([patches.new_full((len(x), 1, 6), 100.0), patches], dim=1)


class RatioNet(MaskedNet):
    """Like Hugging Face's ViTMAE: how much it masks is a setting."""

    def __init__(self, conv: bool = True) -> None:
        super().__init__(4, conv)
        self.mask_ratio = 0.75

    def kept(self, count: int) -> int:
        return int(count * (1 - self.mask_ratio))


@pytest.mark.parametrize("conv", [True, False])
@pytest.mark.parametrize("keep", [4, 5, 9])  # 4 and 9 are squares too
def test_masking_without_setting_is_refused(conv: bool, keep: int):
    with pytest.raises(ConfigError, match=r"^backbone: MaskedNet masks patches at random") as error:
        find_input_size(MaskedNet(keep, conv=conv), 32)
    assert "\n" not in str(error.value) and "feature_fn=" in str(error.value)


@pytest.mark.parametrize("wrap", [lambda net: net, nn.Sequential])
@pytest.mark.parametrize("conv", [True, False])
def test_masking_is_off_for_crops_only(wrap, conv: bool):
    net = RatioNet(conv=conv)
    backbone = wrap(net)
    layout = find_input_size(backbone, 32).layout
    assert layout.is_masked and layout.num_prefix == 1 and net.mask_ratio == 0.75
    for training in (True, False):
        backbone.train(training)
        features = extract_features(backbone, CROPS, layout=layout)
        torch.testing.assert_close(features, net.patches(CROPS).mean(dim=1))
    assert net.mask_ratio == 0.75
    assert backbone(CROPS).shape[1] == 1 + 4


def test_mask_ratio_is_restored_after_error():
    net = RatioNet()
    layout = find_input_size(net, 32).layout
    net.fails = True
    with pytest.raises(RuntimeError, match="inside"):
        extract_features(net, CROPS, layout=layout)
    assert net.mask_ratio == 0.75


class InferenceFeatures(RatioNet):
    """Masks in training mode alone; its ``forward_features`` is for inference, as some libraries'.

    Args:
        gives_gradient: whether that method keeps the gradient.
    """

    def __init__(self, gives_gradient: bool = False) -> None:
        super().__init__()
        self.gives_gradient = gives_gradient

    def kept(self, count: int) -> int:
        return super().kept(count) if self.training else count

    def forward_features(self, x: Tensor) -> Tensor:
        mode = self.training
        with torch.set_grad_enabled(self.gives_gradient):
            output = self.eval()(x)
        self.train(mode)
        return output


@pytest.mark.parametrize("training", (True, False))
def test_features_for_inference_are_not_used(training: bool):
    net = InferenceFeatures().train(training)
    layout = find_input_size(net, 32).layout
    assert layout.calls_module and layout.is_masked and net.training == training
    net.train()
    features = extract_features(net, CROPS, layout=layout)
    torch.testing.assert_close(features, net.patches(CROPS).mean(dim=1))
    assert features.requires_grad and net.mask_ratio == 0.75
    assert not find_input_size(InferenceFeatures(True), 32).layout.calls_module
    assert not find_input_size(net.requires_grad_(False), 32).layout.calls_module


def test_host_views_of_masked_are_refused():
    with pytest.raises(ConfigError, match=r"^source: got 'host_views', takes 'view' or 'image'"):
        SPSession(RatioNet(), source="host_views")


def test_patches_dropped_in_training():
    net = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, img_size=64, depth=1, patch_drop_rate=0.5
    )
    layout = find_input_size(net, 64).layout
    assert layout.drops_patches and layout.num_prefix == 1
    assert "patches dropped in training" in layout.describe("ViT")
    images = torch.rand(2, 3, 64, 64)
    with private_rng(0):
        kept = net.train().forward_features(images)[:, 1:]
    assert kept.shape[1] == 8
    with private_rng(0):
        features = extract_features(net, images, layout=layout)
    assert torch.equal(features, kept.mean(dim=1))


def test_noise_in_evaluation_is_said():
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    layout = find_input_size(Noisy(), 16).layout
    assert layout.is_random and layout.describe("Noisy").endswith("random in evaluation mode too")


def test_draws_that_change_nothing_are_fine():
    class Draws(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            random.random(), torch.rand(1)
            return x

    assert not find_input_size(Draws(), 16).layout.is_random


class AuxNet(nn.Module):
    """Returns further vectors of the same width in training mode, in any order."""

    def __init__(self, order: tuple[str, ...] = ("main", "aux")) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout())
        self.aux, self.other = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 5, 1)
        self.order = order

    def forward(self, x: Tensor):
        outputs = {name: getattr(self, name)(x).mean((2, 3)) for name in ("main", "aux", "other")}
        return tuple(outputs[name] for name in self.order) if self.training else outputs["main"]


@pytest.mark.parametrize(
    "order", [("main", "aux"), ("aux", "main"), ("other", "main"), ("other", "aux", "main", "aux")]
)
def test_auxiliary_outputs_are_left_out(order: tuple[str, ...]):
    net = AuxNet(order)
    layout = find_input_size(net, 32).layout
    assert layout.has_auxiliary and layout.position == 0
    assert layout.training_position == order.index("main")
    torch.manual_seed(0)
    features = extract_features(net.train(), CROPS, layout=layout)
    torch.manual_seed(0)
    assert torch.equal(features, net.main(CROPS).mean((2, 3)))
    assert torch.equal(extract_features(net.eval(), CROPS, layout=layout), net(CROPS))


def test_unknown_training_output_is_refused():
    for order in (("other", "other"), ("aux", "aux")):
        with pytest.raises(ConfigError, match=r"^backbone: AuxNet gives .* in training mode") as e:
            find_input_size(AuxNet(order), 32)
        assert "\n" not in str(e.value) and "layer=" in str(e.value)


def test_another_layout_in_a_step_is_refused():
    net = AuxNet()
    layout = find_input_size(net, 32).layout
    net.order = ("other",)
    with pytest.raises(ConfigError, match=r"^backbone: got \(2, 5\) in its output, takes vector"):
        extract_features(net.train(), CROPS, layout=layout)


def test_googlenet_trains_on_its_main_output():
    net = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    net.fc, net.aux1.fc2, net.aux2.fc2 = (nn.Linear(width, 7) for width in (1024, 1024, 1024))
    images = torch.rand(2, 3, 64, 64)
    sp = SpatialPrediction.from_backbone(net, images, SPConfig(relative_weight=False))
    assert sp.layout.has_auxiliary and sp.layout.feature_dim == 7
    sp(net, images, step=0).loss.backward()
    assert net.fc.weight.grad.any() and net.aux1.fc2.weight.grad is None


def test_size_is_taken_in_training_too():
    class Pools(AuxNet):
        def forward(self, x: Tensor):
            if self.training and x.shape[-1] < 64:
                raise RuntimeError("too small for the auxiliary output")
            return super().forward(x)

    assert find_input_size(Pools(), 48).input_size == 64
    assert find_input_size(Pools(), 48, in_training=False).input_size == 48


def test_training_mode_error_is_named():
    class EvalOnly(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training, "needs labels"
            return x

    with pytest.raises(ConfigError) as caught:
        find_input_size(EvalOnly(), 16)
    line = "backbone: EvalOnly takes no crops of 16 px in training mode: needs labels"
    assert str(caught.value) == line


def test_sync_batch_norm_is_probed_on_cpu():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SyncBatchNorm(8), nn.BatchNorm2d(8))
    assert find_input_size(net, 16).layout.kind == "nchw"
    assert all(part.training for part in net.modules())


@pytest.mark.parametrize("nhwc", [True, False])
def test_axes_of_a_cubic_map_are_measured(nhwc: bool):
    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.repeat(1, 2, 1, 1)  # 6 channels, and 6 px of a crop of 6 px
            return x.permute(0, 2, 3, 1) if nhwc else x

    images = torch.rand(2, 3, 6, 6)
    layout = find_input_size(Cubic(), 6).layout
    assert layout.kind == ("nhwc" if nhwc else "nchw")
    expected = images.mean((2, 3)).repeat(1, 2)
    torch.testing.assert_close(extract_features(Cubic(), images, layout=layout), expected)


@pytest.mark.parametrize("size", [32, 224])
def test_error_is_that_of_the_size_it_takes(size: int):
    net = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, img_size=size, depth=1, in_chans=1
    )
    with pytest.raises(ConfigError) as caught:
        find_input_size(net, 48, channels=3)
    assert f"takes no crops of 48 px; at {size} px: " in str(caught.value)
    assert "to have 1 channels, but got 3 channels" in str(caught.value)
    assert not any(part._forward_pre_hooks for part in net.modules())


DESCRIPTIONS = {
    "vit": (lambda: _vit("vit_tiny_patch16_224"), "a class token left out"),
    "registers": (lambda: _vit("vit_little_patch16_reg4_gap_256"), "4 register tokens left out"),
    "dinov2": (
        lambda: _vit("vit_small_patch14_reg4_dinov2", 42),
        "4 register tokens and a class token left out",
    ),
    "deit": (lambda: _vit("deit_tiny_distilled_patch16_224"), "2 class tokens left out"),
    "resnet": (lambda: torchvision.models.resnet18(), "vectors, width 1000"),
    "convnext": (lambda: timm.create_model("convnext_atto"), "mean of a map, width 320"),
}


def _vit(name: str, size: int = 32) -> nn.Module:
    return timm.create_model(name, pretrained=False, img_size=size, depth=1)


@pytest.mark.parametrize(("build", "found"), DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_what_was_found_is_announced(build, found: str):
    lines: list[str] = []
    net = build()
    session = SPSession(net, weight=0, crop_size=32, announce=lines.append)
    session(torch.rand(2, 3, 64, 64))
    assert lines[0].endswith(f"; {type(net).__name__}: {found}")
