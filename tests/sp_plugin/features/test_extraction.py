"""Pooling of the outputs of backbones: vectors, tokens, maps, and what holds them."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import ConfigError
from sp_plugin.features.extraction import extract_feature_map, pool_features

VECTOR = torch.randn(3, 7)
TOKENS = torch.randn(3, 16, 7)  # of 4 x 4 patches
MAP = torch.randn(3, 7, 4, 4)
CLASS = torch.randn(3, 7)


class ModelOutput(OrderedDict):
    """Like Hugging Face's: keys are attributes too, and fields that are None are no keys."""

    def __init__(self, **fields) -> None:
        super().__init__({key: value for key, value in fields.items() if value is not None})
        self.__dict__.update(fields)


def _with_prefix(count: int) -> Tensor:
    return torch.cat([torch.randn(3, count, 7), TOKENS], dim=1)


def test_vectors_are_returned_unchanged():
    assert pool_features(VECTOR) is VECTOR
    assert pool_features(VECTOR, "cls") is VECTOR


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("known", [True, False])
def test_tokens_are_pooled_over_patches_only(count, known):
    features = pool_features(_with_prefix(count), prefix=count if known else None)
    torch.testing.assert_close(features, TOKENS.mean(dim=1))


def test_known_prefix_overrides_token_count():
    tokens = torch.randn(3, 5 + 4, 7)  # 9 tokens, which could also be 3 x 3 patches
    torch.testing.assert_close(pool_features(tokens, prefix=5), tokens[:, 5:].mean(dim=1))
    torch.testing.assert_close(pool_features(tokens), tokens.mean(dim=1))


@pytest.mark.parametrize("prefix", [1, 2, 5])
def test_layer_before_prefix_pools_all(prefix):
    torch.testing.assert_close(pool_features(TOKENS, prefix=prefix), TOKENS.mean(dim=1))


@pytest.mark.parametrize("prefix", [1, 3])
def test_class_tokens_alone_are_finite(prefix):
    class_token = torch.randn(3, 1, 7)
    torch.testing.assert_close(pool_features(class_token, prefix=prefix), class_token[:, 0])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_first_token_is_the_class_token(count):
    tokens = _with_prefix(count)
    assert torch.equal(pool_features(tokens, "cls"), tokens[:, 0])


@pytest.mark.parametrize("output", [TOKENS, [TOKENS], {"last_hidden_state": TOKENS}])
def test_missing_class_token_is_refused(output):
    with pytest.raises(ConfigError) as caught:
        pool_features(output, "cls")
    message = "pool: got 'cls', but the backbone has no class token, takes 'mean'"
    assert str(caught.value) == message


def test_maps_pool_over_space_nchw_or_nhwc():
    expected = MAP.mean(dim=(2, 3))
    torch.testing.assert_close(pool_features(MAP), expected)
    torch.testing.assert_close(pool_features(MAP.permute(0, 2, 3, 1)), expected)


def test_a_map_of_one_pixel_is_that_pixel():
    assert torch.equal(pool_features(MAP[:, :, :1, :1]), MAP[:, :, 0, 0])
    assert torch.equal(pool_features(MAP[:, :, :1, :1].permute(0, 2, 3, 1)), MAP[:, :, 0, 0])


SHALLOW = torch.randn(3, 4, 8, 8)
MASK, ORDER = torch.ones(3, 16), torch.arange(16).expand(3, 16)
LATENT = _with_prefix(1)
# Each output: its features with pool "mean", and with pool "cls" (None: it has no class token).
OUTPUTS = {
    "a tuple of one": ((MAP,), MAP.mean(dim=(2, 3)), None),
    "stages": ([SHALLOW, MAP], MAP.mean(dim=(2, 3)), None),
    "map and class": ((MAP, CLASS), MAP.mean(dim=(2, 3)), CLASS),
    "nested": (([MAP, CLASS],), MAP.mean(dim=(2, 3)), CLASS),
    "stages of map and class": (
        ((SHALLOW, torch.randn(3, 4)), (MAP, CLASS)),
        MAP.mean(dim=(2, 3)),
        CLASS,
    ),
    "tokens and class": ((TOKENS, CLASS), TOKENS.mean(dim=1), CLASS),
    "features and None": ((None, VECTOR), VECTOR, VECTOR),
    "MAE": ((LATENT, MASK, ORDER), TOKENS_MEAN := LATENT[:, 1:].mean(dim=1), LATENT[:, 0]),
    "Hugging Face's": (
        ModelOutput(last_hidden_state=LATENT, pooler_output=CLASS, hidden_states=(TOKENS,)),
        TOKENS_MEAN,
        LATENT[:, 0],
    ),
    "Hugging Face's without a pooler": (
        ModelOutput(last_hidden_state=LATENT, pooler_output=None),
        TOKENS_MEAN,
        LATENT[:, 0],
    ),
    "DINOv2's": (
        {
            "x_norm_clstoken": CLASS,
            "x_norm_regtokens": torch.randn(3, 4, 7),
            "x_norm_patchtokens": TOKENS,
            "x_prenorm": _with_prefix(5),
            "masks": None,
        },
        TOKENS.mean(dim=1),
        CLASS,
    ),
    "solo-learn's": ({"logits": torch.randn(3, 10), "feats": VECTOR}, VECTOR, VECTOR),
    "an extractor's": (OrderedDict(layer3=SHALLOW, layer4=MAP), MAP.mean(dim=(2, 3)), None),
    "segmentation's": (OrderedDict(out=MAP, aux=SHALLOW), MAP.mean(dim=(2, 3)), None),
    "a dict in a list": ([{"x": MAP}], MAP.mean(dim=(2, 3)), None),
}


@pytest.mark.parametrize(("output", "mean", "_"), OUTPUTS.values(), ids=OUTPUTS)
def test_pools_patches_of_any_output(output, mean, _):
    torch.testing.assert_close(pool_features(output), mean)


@pytest.mark.parametrize(
    ("output", "token"),
    [(output, token) for output, _, token in OUTPUTS.values() if token is not None],
    ids=[name for name, (_, _, token) in OUTPUTS.items() if token is not None],
)
def test_finds_class_token_of_any_output(output, token):
    torch.testing.assert_close(pool_features(output, "cls"), token)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "no features in an output of type NoneType"),
        ((None, ORDER), "no features in an output of type tuple"),
        (torch.zeros(3), r"cannot pool an output of shape \(3,\)"),
        (torch.zeros(1, 2, 3, 4, 5), r"cannot pool an output of shape \(1, 2, 3, 4, 5\)"),
        (torch.zeros(3, 4, dtype=torch.long), r"cannot pool an output of shape \(3, 4\)"),
        ({}, "no features in an output of type list"),
    ],
)
def test_output_without_features_is_refused(output, message):
    with pytest.raises(ConfigError, match=f"^backbone: {message}$"):
        pool_features(output)


class FixedOutput(nn.Module):
    """A backbone that always returns the same output."""

    def __init__(self, output, prefix: int | None = None) -> None:
        super().__init__()
        self.output = output
        if prefix is not None:
            self.num_prefix_tokens = prefix

    def forward(self, images: Tensor):
        return self.output


@pytest.mark.parametrize("count", [0, 1, 5])
def test_patch_tokens_fill_the_map_by_row(count):
    backbone = FixedOutput(_with_prefix(count), count)
    features = extract_feature_map(backbone, torch.zeros(3, 3, 8, 8))
    assert features.shape == (3, 7, 4, 4)
    torch.testing.assert_close(features[:, :, 1, 2], TOKENS[:, 6])


def test_nhwc_map_is_transposed():
    blank = torch.zeros(3, 3, 8, 8)
    assert extract_feature_map(FixedOutput((MAP, VECTOR)), blank) is MAP
    torch.testing.assert_close(
        extract_feature_map(FixedOutput(MAP.permute(0, 2, 3, 1)), blank), MAP
    )


def test_pooled_features_have_no_map():
    with pytest.raises(ConfigError, match="takes a layer that gives a map"):
        extract_feature_map(FixedOutput(VECTOR), torch.zeros(3, 3, 8, 8))
