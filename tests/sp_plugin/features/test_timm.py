"""One contract for timm's architectures: feature width, crop size, features, gradients, isolation.

The images are of 64 px, so the preferred crop size is 32 px.
"""

from __future__ import annotations

import pytest
import timm
import torch
from packaging.version import Version
from torch import Tensor, nn

from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.features.extraction import extract_features

# Settings that keep the models small.
_VIT = {"img_size": 32, "depth": 2}
_SWIN = {"img_size": 64, "depths": (1, 1, 1, 1)}
ARCHITECTURES = {
    "resnet10t": {},
    "resnetv2_18": {},
    "convnext_atto": {},
    "convnextv2_atto": {},
    "vit_tiny_patch16_224": _VIT,
    "vit_small_patch16_dinov3": _VIT,
    "vit_little_patch16_reg4_gap_256": _VIT,
    "vit_small_patch14_reg4_dinov2": {"img_size": 42, "depth": 2},
    "vit_small_patch16_384": {"dynamic_img_size": True, "depth": 2},
    "vit_relpos_small_patch16_224": _VIT,
    "deit_tiny_distilled_patch16_224": _VIT,
    "deit3_small_patch16_224": _VIT,
    "beit_base_patch16_224": {"img_size": 32, "depth": 1},
    "eva02_tiny_patch14_224": {"img_size": 42, "depth": 2},
    "naflexvit_base_patch16_gap": {"depth": 1},
    "swin_tiny_patch4_window7_224": {**_SWIN, "window_size": 2},
    "swinv2_tiny_window8_256": {**_SWIN, "window_size": 2},
    "swinv2_cr_tiny_ns_224": {**_SWIN, "window_size": 2},
    "poolformer_s12": {},
    "convformer_s18": {},
    "mobilenetv3_small_050": {},
    "mobilenetv4_conv_small_035": {},
    "mobilenetv4_hybrid_medium": {},
    "efficientnet_b0": {},
    "tf_efficientnetv2_b0": {},
    "rexnet_100": {},
    "ghostnet_050": {},
    "mobilevitv2_050": {},
    "efficientvit_b0": {},
    "regnetx_002": {},
    "regnety_002": {},
    "mixer_s16_224": {"img_size": 32},
    "resmlp_12_224": {"img_size": 32},
    "gmlp_ti16_224": {"img_size": 32},
    "densenet121": {"block_config": (2, 2, 2, 2)},
    "vgg11_bn": {"mlp_ratio": 0.01},
    "repvgg_a0": {},
    "eca_nfnet_l0": {},
    "xcit_nano_12_p16_224": {},
    "cait_xxs24_224": _VIT,
    "convit_tiny": {"img_size": 32},
    "levit_128s": {"img_size": 128},
    "pit_ti_224": {"img_size": 64},
    "twins_pcpvt_small": {"depths": (1, 1, 1, 1)},
    "twins_svt_small": {"depths": (1, 1, 1, 1)},
    "mvitv2_small_cls": {"img_size": 32},
    "maxvit_rmlp_pico_rw_256": {"img_size": 64},
    "coatnet_nano_rw_224": {"img_size": 64},
    "coat_lite_tiny": {"img_size": 64},
    "hrnet_w18_small": {},
    "dla46_c": {},
    "edgenext_xx_small": {},
    "efficientformer_l1": {},
    "fastvit_t8": {},
    "focalnet_tiny_srf": {},
    "davit_tiny": {"depths": (1, 1, 1, 1)},
    "inception_next_atto": {},
    "volo_d1_224": {"img_size": 64},
    "visformer_tiny": {"img_size": 64},
    "crossvit_9_240": {},
    "sequencer2d_s": {"layers": (1, 1, 1, 1)},
    "hiera_tiny_224": {"img_size": 64, "stages": (1, 1, 1, 1)},
    "mambaout_femto": {},
    "tiny_vit_5m_224": {},
    "pvt_v2_b0": {},
    "cs3darknet_s": {},
}

# Number of tokens before the patch tokens, for models without num_prefix_tokens.
PREFIX = dict.fromkeys(
    (
        "volo_d1_224", "coat_lite_tiny", "crossvit_9_240", "pit_ti_distilled_224",
        "xcit_nano_12_p16_224", "cait_xxs24_224", "convit_tiny",
    ), 1,
)  # fmt: skip
# Models that timm up to 1.0.25 cannot build without a classifier, or without its pooling.
BARE_SINCE_1_0_26 = {"pit_ti_224", "inception_next_atto"}
# CrossViT has two branches of different widths: SP uses the deeper one.
WIDTH = {"crossvit_9_240": 256}
# The classifier's pooling decides where the last norm is (norm or fc_norm), or the model cannot be
# built without pooling.
POOLED = {
    "vit_little_patch16_reg4_gap_256",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
    "deit_tiny_distilled_patch16_224",
    "efficientvit_b0",
    "coat_lite_tiny",
    "inception_next_atto",
    "crossvit_9_240",
}


class Case:
    """One architecture, and SP for it."""

    def __init__(self, name: str) -> None:
        if not timm.is_model(name):
            pytest.skip(f"timm {timm.__version__} has no {name}")
        torch.manual_seed(0)
        self.name = name
        self.model = timm.create_model(name, pretrained=False, **ARCHITECTURES[name])
        with torch.no_grad():  # a residual branch that is initialised to 0 passes no gradient
            for name, parameter in self.model.named_parameters():
                if not parameter.any() and not name.endswith("bias"):
                    parameter.fill_(0.1)
        self.images = torch.randn(2, 3, 64, 64)
        self.before = _state(self.model)
        self.sp = SpatialPrediction.from_backbone(
            self.model, self.images, SPConfig(relative_weight=False)
        )
        self.after = _state(self.model)
        side = self.sp.config.crop_size
        self.crops = torch.randn(3, 3, side, side)

    def expected_features(self, model: nn.Module) -> Tensor:
        output = model.forward_features(self.crops)
        features = output[-1] if isinstance(output, (list, tuple)) else output
        width = WIDTH.get(self.name, model.num_features)
        if features.ndim == 3:
            prefix = PREFIX.get(self.name, getattr(model, "num_prefix_tokens", 0))
            return features[:, prefix:].mean(dim=1)
        if features.shape[1] == width:
            return features.mean(dim=(2, 3))
        assert features.shape[3] == width
        return features.mean(dim=(1, 2))


def _max_abs(features: Tensor) -> float:
    largest = features.abs().max().item()
    assert 0 < largest < float("inf")
    return largest


def _state(model: nn.Module) -> tuple[dict[str, Tensor], list[bool], Tensor]:
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return buffers, [part.training for part in model.modules()], torch.get_rng_state()


def _same(before, after) -> bool:
    buffers_match = before[0].keys() == after[0].keys() and all(
        torch.equal(buffer, after[0][name]) for name, buffer in before[0].items()
    )
    return buffers_match and before[1] == after[1] and torch.equal(before[2], after[2])


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request):
    return Case(request.param)


def test_features_are_mean_of_patch_tokens(case):
    case.model.eval()
    with torch.no_grad():
        features, expected = (
            extract_features(case.model, case.crops, layout=case.sp.layout),
            case.expected_features(case.model),
        )
    width = WIDTH.get(case.name, case.model.num_features)
    assert features.shape == (3, width) and case.sp.feature_dim == width
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4 * _max_abs(expected))


def test_classifier_changes_nothing(case):
    if case.name in BARE_SINCE_1_0_26 and Version(timm.__version__) < Version("1.0.26"):
        pytest.skip(f"timm {timm.__version__} cannot build {case.name} bare")
    pooling = {} if case.name in POOLED else {"global_pool": ""}
    settings = {**ARCHITECTURES[case.name], **pooling}
    bare = timm.create_model(case.name, pretrained=False, num_classes=0, **settings)
    missing, _ = bare.load_state_dict(case.model.state_dict(), strict=False)
    assert not missing
    with torch.no_grad():
        features, expected = (
            extract_features(one.eval(), case.crops) for one in (bare, case.model)
        )
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4 * _max_abs(expected))


def test_probe_leaves_no_trace(case):
    assert _same(case.before, case.after)


def test_step_reaches_all_layers_no_buffers(case):
    model = case.model.train()
    model.zero_grad()
    before = _state(model)
    out = case.sp(model, case.images, step=0)
    out.loss.backward()
    assert _same(before, _state(model))
    assert out.loss > 0 and out.loss.isfinite() and out.metrics["skipped_fraction"] == 0

    # The last layers of models with class attention (CaiT, XCiT, VOLO) get no patch tokens, so the
    # parameters that the features reach are found without SP.
    parameters = list(model.parameters())
    loss = case.expected_features(model).square().sum()
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    reached = [
        parameter.grad
        for parameter, gradient in zip(parameters, expected, strict=True)
        if gradient is not None and gradient.ndim > 1 and gradient.any()
    ]
    assert all(gradient.isfinite().all() for gradient in reached)
    assert reached[0].any() and reached[-1].any()
    assert not any(
        parameter.grad is not None and parameter.grad.any()
        for parameter, gradient in zip(parameters, expected, strict=True)
        if gradient is None
    )
