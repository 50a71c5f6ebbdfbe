"""Hugging Face's models, small and untrained; transformers is no dependency of this project."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.features.extraction import extract_features

hf = pytest.importorskip("transformers")

SMALL: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
DINO: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
# Each model: how it is built, the size of its crops, and the number of tokens before its patches.
MODELS = {
    "vit": (lambda: hf.ViTModel(hf.ViTConfig(**SMALL, image_size=32, patch_size=8)), 32, 1),
    "deit": (lambda: hf.DeiTModel(hf.DeiTConfig(**SMALL, image_size=32, patch_size=8)), 32, 2),
    "ijepa": (lambda: hf.IJepaModel(hf.IJepaConfig(**SMALL, image_size=32, patch_size=8)), 32, 0),
    "dinov2": (lambda: hf.Dinov2Model(hf.Dinov2Config(**DINO, image_size=28)), 32, 1),
    "dinov2 with registers": (
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**DINO, image_size=28)),
        32,
        5,
    ),
    # 9 tokens, a square number, of which 4 are patches.
    "dinov3": (
        lambda: hf.DINOv3ViTModel(
            hf.DINOv3ViTConfig(**SMALL, patch_size=16, num_register_tokens=4)
        ),
        32,
        5,
    ),
    "swin": (
        lambda: hf.SwinModel(
            hf.SwinConfig(
                image_size=32, patch_size=2, embed_dim=12, depths=[1, 1], num_heads=[1, 2],
                window_size=4,
            )
        ),
        32,
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("build", "size", "prefix"), MODELS.values(), ids=MODELS)
def test_patch_tokens_alone_are_pooled(build: Any, size: int, prefix: int):
    net = build()
    images = torch.rand(2, 3, 64, 64)
    sp = SpatialPrediction.from_backbone(net, images, SPConfig(relative_weight=False))
    assert (sp.config.crop_size, sp.layout.num_prefix) == (size, prefix)
    crops = images[..., :size, :size]
    expected = net.eval()(crops).last_hidden_state[:, prefix:].mean(dim=1)
    torch.testing.assert_close(extract_features(net, crops, layout=sp.layout), expected)
    sp(net.train(), images, step=0).loss.backward()


def test_vitmae_sees_whole_crops():
    config = hf.ViTMAEConfig(**SMALL, image_size=32, patch_size=4, decoder_num_attention_heads=2)
    net: nn.Module = hf.ViTMAEForPreTraining(config).vit
    images = torch.rand(2, 3, 64, 64)
    sp = SpatialPrediction.from_backbone(net, images, SPConfig(relative_weight=False))
    assert sp.layout.is_masked and config.mask_ratio == 0.75
    crops = images[..., :32, :32]
    features = extract_features(net, crops, layout=sp.layout)
    config.mask_ratio = 0.0
    expected = net(crops).last_hidden_state[:, 1:]
    assert expected.shape[1] == 64
    torch.testing.assert_close(features, expected.mean(dim=1))
