"""SP's crops are encoded whole: as the masked backbones themselves do where nothing is masked."""

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
    "num_layers": 4,  # mixmim.py asks for these two and uses neither
    "feedforward_channels": 32,
}
SMALL = {"img_size": 32, "patch_size": 8, "arch": VIT}
NONE = torch.zeros(4, 4, 4)  # what is masked of 4 images of 4 x 4 patches

# Backbone, its settings, and what its own forward takes besides images to mask nothing.
MASKED: dict[str, dict[str, tuple[dict[str, Any], tuple[Any, ...]]]] = {
    "mmselfsup": {
        "BEiTViT": (SMALL, (NONE,)),
        "CAEViT": ({**SMALL, "init_values": 0.1}, (NONE.flatten(1).bool(),)),
        "MAEViT": ({**SMALL, "mask_ratio": 0.0}, ()),
        "MILANViT": ({**SMALL, "mask_ratio": 0.0}, (torch.ones(4, 16),)),
        "MaskFeatViT": (SMALL, (NONE.bool(),)),
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
        "BEiTPretrainViT": (SMALL, (NONE,)),
        "CAEPretrainViT": ({**SMALL, "layer_scale_init_value": 0.1}, (NONE.flatten(1).bool(),)),
        "MAEViT": ({**SMALL, "mask_ratio": 0.0}, ()),
        "MFFViT": ({**SMALL, "mask_ratio": 0.0, "out_indices": [1]}, ()),
        "MILANViT": ({**SMALL, "mask_ratio": 0.0}, (torch.ones(4, 16),)),
        "MaskFeatViT": (SMALL, (NONE.flatten(1).bool(),)),
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
CASES = [(host, name) for host, names in MASKED.items() for name in names]


def built(host: str, name: str) -> tuple[Any, torch.Tensor, tuple[Any, ...]]:
    settings, more = MASKED[host][name]
    torch.manual_seed(0)
    backbone = MODELS.build({"type": f"{host}.{name}", **settings})
    backbone.init_weights()
    for parameter in backbone.parameters():  # mask tokens are not to be zeros
        parameter.data += 0.05 * torch.randn_like(parameter)
    side = settings["img_size"]
    backbone.eval()  # gives None in mmcls
    return backbone, torch.randn(4, 3, side, side), more


@pytest.mark.parametrize(("host", "name"), CASES)
def test_crops_are_encoded_as_the_backbone_does_unmasked(host: str, name: str) -> None:
    backbone, crops, more = built(host, name)
    ours = extract_features(backbone, crops, call=unmasked_feature_fn(backbone))
    theirs = backbone(crops, *more)
    # Theirs has the mask and the order of tokens behind the features, in a tuple.
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    torch.testing.assert_close(ours, pool_features(theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("host", "name"), CASES)
def test_nothing_is_masked(host: str, name: str) -> None:
    """Twice the same crops, twice the same features, whatever the global generators say."""
    backbone, crops, _ = built(host, name)
    call = unmasked_feature_fn(backbone)
    assert torch.equal(
        extract_features(backbone, crops, call=call), extract_features(backbone, crops, call=call)
    )


def test_hivit_is_encoded_though_its_forward_gives_nothing() -> None:
    torch.manual_seed(0)
    settings = {"arch": "tiny", "img_size": 64, "mask_ratio": 0.0}
    backbone = MODELS.build({"type": "mmpretrain.MAEHiViT", **settings})
    backbone.init_weights()
    crops = torch.randn(2, 3, 64, 64)
    backbone.eval()
    features = extract_features(backbone, crops, call=unmasked_feature_fn(backbone))
    latent, *_ = backbone(crops)
    torch.testing.assert_close(features, latent.mean(dim=1), rtol=1e-4, atol=1e-5)


def test_spark_is_encoded_with_every_place_active() -> None:
    from mmpretrain.models.utils.sparse_modules import SparseHelper

    sparse = {"type": "SparseBatchNorm2d"}
    with DefaultScope.overwrite_default_scope("mmpretrain"):  # its parts are named without one
        backbone = MODELS.build({"type": "SparseResNet", "depth": 50, "norm_cfg": sparse})

    crops = torch.randn(2, 3, 64, 64)
    SparseHelper._cur_active = mask = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    backbone.eval()
    ours = extract_features(backbone, crops, call=unmasked_feature_fn(backbone))
    assert SparseHelper._cur_active is mask  # as the host's own step left it
    SparseHelper._cur_active = torch.ones_like(mask)
    assert torch.allclose(ours, pool_features(backbone(crops)), atol=1e-5)
    SparseHelper._cur_active = None


def test_other_backbones_are_called_as_they_are() -> None:
    assert unmasked_feature_fn(MODELS.build({"type": "mmselfsup.ResNet", "depth": 18})) is None
    assert unmasked_feature_fn(MODELS.build({"type": "mmselfsup.MoCoV3ViT", **SMALL})) is None


def test_a_users_own_subclass_of_a_masked_backbone_is_unmasked_too() -> None:
    from mmselfsup.models.backbones import MAEViT

    class Mine(MAEViT):
        def forward(self, x: Any) -> Any:
            raise AssertionError("masked")

    torch.manual_seed(0)
    mine, theirs = Mine(**SMALL), MAEViT(**SMALL)
    mine.load_state_dict(theirs.state_dict())
    crops = torch.randn(2, 3, 32, 32)
    a, b = (extract_features(net, crops, call=unmasked_feature_fn(net)) for net in (mine, theirs))
    assert torch.equal(a, b)
