"""Hugging Face's models, small and untrained, against their own outputs taken apart by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import ConfigError, SPConfig, SPSession
from sp_plugin.features.extraction import extract_features
from sp_plugin.features.input_size import find_input_size
from sp_plugin.structures import ViewBoxes

hf = pytest.importorskip("transformers", reason="needs transformers (pip install transformers)")

BLOCKS: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {**BLOCKS, "intermediate_size": 32}
VIT = {**SMALL, "image_size": 32, "patch_size": 8}
STAGES: dict[str, Any] = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 24]}
SWIN: dict[str, Any] = {
    "image_size": 32, "patch_size": 2, "embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2],
    "window_size": 4, "drop_path_rate": 0.0,
}  # fmt: skip
DECODER: dict[str, Any] = {
    "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}  # fmt: skip
TOKENS, MAP = "tokens", "nchw"


class Case(NamedTuple):
    """A model and what is known of it.

    Attributes:
        build: makes it.
        kind: of its features.
        prefix: number of tokens before its patches.
        has_class_token: whether the first of these is one.
        base: name of the part with the features; None: the model itself.
    """

    build: Callable[[], nn.Module]
    kind: str = TOKENS
    prefix: int = 0
    has_class_token: bool = False
    base: str | None = None


MODELS = {
    "vit": Case(lambda: hf.ViTModel(hf.ViTConfig(**VIT)), TOKENS, 1, True),
    "vit, no pooler": Case(
        lambda: hf.ViTModel(hf.ViTConfig(**VIT), add_pooling_layer=False), TOKENS, 1, True
    ),
    "deit": Case(lambda: hf.DeiTModel(hf.DeiTConfig(**VIT)), TOKENS, 2, True),
    "beit": Case(
        lambda: hf.BeitModel(hf.BeitConfig(
                **VIT, drop_path_rate=0.0, use_relative_position_bias=True
            )),
        TOKENS, 1, True,
    ),
    "dinov2": Case(
        lambda: hf.Dinov2Model(hf.Dinov2Config(**BLOCKS, image_size=28)), TOKENS, 1, True
    ),
    "dinov2 with registers": Case(
        lambda: hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(**BLOCKS, image_size=28)
        ),
        TOKENS, 5, True,
    ),
    # 9 tokens, a square number, of which 4 are patches.
    "dinov3": Case(
        lambda: hf.DINOv3ViTModel(
            hf.DINOv3ViTConfig(
                **SMALL, patch_size=16, num_register_tokens=4, pos_embed_rescale=None
            )
        ),
        TOKENS, 5, True,
    ),
    # Its first token is the mean of the others.
    "dinov3 convnext": Case(
        lambda: hf.DINOv3ConvNextModel(hf.DINOv3ConvNextConfig(**STAGES)), TOKENS, 1, True
    ),
    "clip": Case(
        lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT)), TOKENS, 1, True
    ),
    "siglip": Case(lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VIT))),
    "ijepa": Case(lambda: hf.IJepaModel(hf.IJepaConfig(**VIT))),
    "swin": Case(lambda: hf.SwinModel(hf.SwinConfig(**SWIN))),
    "convnext": Case(lambda: hf.ConvNextModel(hf.ConvNextConfig(**STAGES)), MAP),
    "vit with a classifier": Case(
        lambda: hf.ViTForImageClassification(hf.ViTConfig(**VIT)), TOKENS, 1, True, "vit"
    ),
    "dinov2 with a classifier": Case(
        lambda: hf.Dinov2ForImageClassification(hf.Dinov2Config(**BLOCKS, image_size=28)),
        TOKENS, 1, True, "dinov2",
    ),
    "vit with a pixel decoder": Case(
        lambda: hf.ViTForMaskedImageModeling(hf.ViTConfig(**VIT)), TOKENS, 1, True, "vit"
    ),
    "beit with token logits": Case(
        lambda: hf.BeitForMaskedImageModeling(
            hf.BeitConfig(**VIT, drop_path_rate=0.0, use_mask_token=True, vocab_size=40)
        ),
        TOKENS, 1, True, "beit",
    ),
    "swin with a pixel decoder": Case(
        lambda: hf.SwinForMaskedImageModeling(hf.SwinConfig(**SWIN, encoder_stride=4)),
        TOKENS, 0, False, "swin",
    ),
    "clip with a classifier": Case(
        lambda: hf.CLIPForImageClassification(
            hf.CLIPConfig(vision_config=VIT, text_config={**SMALL, "vocab_size": 40})
        ),
        TOKENS, 1, True, "vision_model",
    ),
    "mae": Case(lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**VIT)), TOKENS, 1, True),
    "mae with a decoder": Case(
        lambda: hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**VIT, **DECODER)), TOKENS, 1, True, "vit"
    ),
}  # fmt: skip
SIZE = 32
EVERY = pytest.mark.parametrize("case", MODELS.values(), ids=MODELS)


def whole_output(net: nn.Module, case: Case, crops: Tensor) -> Tensor:
    """The model's last hidden state, with all patches of the crops."""
    part = net if case.base is None else getattr(net, case.base)
    config, ratio = net.config, getattr(net.config, "mask_ratio", None)
    if ratio is not None:
        config.mask_ratio = 0.0
    hidden = part.eval()(crops).last_hidden_state
    if ratio is not None:
        config.mask_ratio = ratio
    return hidden


@EVERY
def test_patch_tokens_alone_are_pooled(case: Case):
    net = case.build()
    layout = find_input_size(net, SIZE).layout
    assert (layout.kind, layout.num_prefix) == (case.kind, case.prefix)
    crops = torch.rand(2, 3, SIZE, SIZE)
    hidden = whole_output(net, case, crops)
    if case.kind == MAP:
        expected = hidden.mean(dim=(2, 3))
    else:
        patches = hidden[:, case.prefix :]
        assert int(patches.shape[1] ** 0.5) ** 2 == patches.shape[1]
        expected = patches.mean(dim=1)
    for is_training in (True, False):
        features = extract_features(net.train(is_training), crops, layout=layout)
        torch.testing.assert_close(features, expected)


@EVERY
def test_class_token_or_refusal(case: Case):
    net = case.build()
    if case.kind == TOKENS and not case.has_class_token:
        with pytest.raises(ConfigError, match="pool: got 'cls', but the backbone has no class"):
            find_input_size(net, SIZE, pool="cls")
        return
    layout = find_input_size(net, SIZE, pool="cls").layout
    crops = torch.rand(2, 3, SIZE, SIZE)
    hidden = whole_output(net, case, crops)
    expected = hidden.mean(dim=(2, 3)) if case.kind == MAP else hidden[:, 0]
    torch.testing.assert_close(extract_features(net, crops, "cls", layout=layout), expected)


@pytest.mark.parametrize("name", ["dinov3", "swin", "mae with a decoder"])
def test_training_reaches_the_encoder_alone(name: str):
    case = MODELS[name]
    net = case.build()
    sp = SPSession(net.train(), SPConfig(relative_weight=False))
    sp(torch.rand(2, 3, 64, 64), step=0).loss.backward()
    reached = {name for name, p in net.named_parameters() if p.grad is not None}
    assert reached and not any("decoder" in name for name in reached)
    assert getattr(net.config, "mask_ratio", 0.75) == 0.75


def test_host_views_take_the_base_model():
    case = MODELS["vit with a classifier"]
    net = case.build()
    sp = SPSession(net, SPConfig(source="host_views", relative_weight=False))
    views = [torch.rand(2, 3, SIZE, SIZE) for _ in range(2)]
    boxes = torch.rand(2, 2, 4) / 2 + 0.1
    with sp.capture():
        for view in views:
            net(view)
        encoded = sp._encoded_views(views, ViewBoxes(boxes, torch.ones(2, 2, 2)))
    expected = [whole_output(net, case, view)[:, 1:].mean(dim=1) for view in views]
    torch.testing.assert_close(encoded.features, torch.stack(expected))
