"""SP's crops are encoded unmasked: as the masked backbones themselves do with an empty mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from sp_mmselfsup.unmasked_forward import unmasked_feature_fn

from sp_plugin.features.extraction import extract_features, pool_features

VIT = {"embed_dims": 24, "num_layers": 2, "num_heads": 2, "feedforward_channels": 48}
SWIN = {"embed_dims": 16, "depths": [1, 1], "num_heads": [1, 2]}
MIX = {
    "embed_dims": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "num_layers": 4,  # mixmim.py requires these two and uses neither
    "feedforward_channels": 32,
}
SMALL = {"img_size": 32, "patch_size": 8, "arch": VIT}
NO_MASK = torch.zeros(4, 4, 4)  # for 4 images of 4 x 4 patches

# Backbones, their settings, and arguments of their own forward with which nothing is masked.
MASKED: dict[str, dict[str, tuple[dict[str, Any], tuple[Any, ...]]]] = {
    "mmselfsup": {
        "BEiTViT": (SMALL, (NO_MASK,)),
        "CAEViT": ({**SMALL, "init_values": 0.1}, (NO_MASK.flatten(1).bool(),)),
        "MAEViT": ({**SMALL, "mask_ratio": 0.0}, ()),
        "MILANViT": ({**SMALL, "mask_ratio": 0.0}, (torch.ones(4, 16),)),
        "MaskFeatViT": (SMALL, (NO_MASK.bool(),)),
        "MixMIMTransformerPretrain": (
            {"arch": MIX, "img_size": 64, "window_size": [2, 2, 2, 2]},
            (0.0,),
        ),
        "SimMIMSwinTransformer": (
            {
                "arch": SWIN,
                "img_size": 32,
                "out_indices": (1,),
                "stage_cfgs": {"block_cfgs": {"window_size": 4}},
            },
            (torch.zeros(4, 8, 8),),
        ),
    },
    "mmpretrain": {
        "BEiTPretrainViT": (SMALL, (NO_MASK,)),
        "CAEPretrainViT": ({**SMALL, "layer_scale_init_value": 0.1}, (NO_MASK.flatten(1).bool(),)),
        "MAEViT": ({**SMALL, "mask_ratio": 0.0}, ()),
        "MFFViT": ({**SMALL, "mask_ratio": 0.0, "out_indices": [1]}, ()),
        "MILANViT": ({**SMALL, "mask_ratio": 0.0}, (torch.ones(4, 16),)),
        "MaskFeatViT": (SMALL, (NO_MASK.flatten(1).bool(),)),
        "MixMIMPretrainTransformer": (
            {"arch": MIX, "img_size": 64, "window_size": [2, 2, 2, 2], "mask_ratio": 0.0},
            (),
        ),
        "SimMIMSwinTransformer": (
            {
                "arch": SWIN,
                "img_size": 32,
                "out_indices": (1,),
                "stage_cfgs": {"block_cfgs": {"window_size": 4}},
            },
            (torch.zeros(4, 8, 8),),
        ),
    },
}
CASES = [(framework, name) for framework, names in MASKED.items() for name in names]


def build_backbone(framework: str, name: str) -> tuple[Any, torch.Tensor, tuple[Any, ...]]:
    settings, arguments = MASKED[framework][name]
    torch.manual_seed(0)
    backbone = MODELS.build({"type": f"{framework}.{name}", **settings})
    backbone.init_weights()
    for parameter in backbone.parameters():  # mask tokens must not be zeros
        parameter.data += 0.05 * torch.randn_like(parameter)
    side = settings["img_size"]
    backbone.eval()  # returns None in mmcls
    return backbone, torch.randn(4, 3, side, side), arguments


@pytest.mark.parametrize(("framework", "name"), CASES)
def test_features_equal_unmasked_forward(framework: str, name: str) -> None:
    backbone, crops, arguments = build_backbone(framework, name)
    features = extract_features(backbone, crops, feature_fn=unmasked_feature_fn(backbone))
    output = backbone(crops, *arguments)
    # After the features, the tuple contains the mask and the order of the tokens.
    output = output[0] if isinstance(output, tuple) else output
    torch.testing.assert_close(features, pool_features(output), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("framework", "name"), CASES)
def test_repeated_calls_give_same_features(framework: str, name: str) -> None:
    """Nothing is masked at random."""
    backbone, crops, _ = build_backbone(framework, name)
    feature_fn = unmasked_feature_fn(backbone)
    first, second = (extract_features(backbone, crops, feature_fn=feature_fn) for _ in range(2))
    assert torch.equal(first, second)


def test_hivit_features_are_mean_of_latent() -> None:
    torch.manual_seed(0)
    settings = {"arch": "tiny", "img_size": 64, "mask_ratio": 0.0}
    backbone = MODELS.build({"type": "mmpretrain.MAEHiViT", **settings})
    backbone.init_weights()
    crops = torch.randn(2, 3, 64, 64)
    backbone.eval()
    features = extract_features(backbone, crops, feature_fn=unmasked_feature_fn(backbone))
    latent, *_ = backbone(crops)
    torch.testing.assert_close(features, latent.mean(dim=1), rtol=1e-4, atol=1e-5)


def test_spark_encodes_all_positions() -> None:
    from mmpretrain.models.utils.sparse_modules import SparseHelper

    sparse = {"type": "SparseBatchNorm2d"}
    # Its submodules are named without a scope.
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        backbone = MODELS.build({"type": "SparseResNet", "depth": 50, "norm_cfg": sparse})

    crops = torch.randn(2, 3, 64, 64)
    SparseHelper._cur_active = mask = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    backbone.eval()
    features = extract_features(backbone, crops, feature_fn=unmasked_feature_fn(backbone))
    assert SparseHelper._cur_active is mask  # as the algorithm's own step set it
    SparseHelper._cur_active = torch.ones_like(mask)
    assert torch.allclose(features, pool_features(backbone(crops)), atol=1e-5)
    SparseHelper._cur_active = None


def test_other_backbones_need_no_feature_fn() -> None:
    assert unmasked_feature_fn(MODELS.build({"type": "mmselfsup.ResNet", "depth": 18})) is None
    assert unmasked_feature_fn(MODELS.build({"type": "mmselfsup.MoCoV3ViT", **SMALL})) is None


def test_masked_subclass_is_unmasked() -> None:
    from mmselfsup.models.backbones import MAEViT

    class CustomMAEViT(MAEViT):
        def forward(self, x: Any) -> Any:
            raise AssertionError("masked")

    torch.manual_seed(0)
    custom, original = CustomMAEViT(**SMALL), MAEViT(**SMALL)
    custom.load_state_dict(original.state_dict())
    crops = torch.randn(2, 3, 32, 32)
    a, b = (
        extract_features(net, crops, feature_fn=unmasked_feature_fn(net))
        for net in (custom, original)
    )
    assert torch.equal(a, b)
