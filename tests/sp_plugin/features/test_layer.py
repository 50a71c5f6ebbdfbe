"""Which output of a backbone is used: a layer's, `forward_features`, or the last."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import ConfigError
from sp_plugin.features.backbone_call import find_layer
from sp_plugin.features.extraction import extract_features


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.stages = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3))
        self.unused = nn.Conv2d(3, 4, 1)
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.fails:
            raise KeyError("inside")
        return self.stages(x).mean(dim=(2, 3))


IMAGES = torch.randn(2, 3, 12, 12)


def _hooks(net: nn.Module) -> int:
    return sum(len(part._forward_hooks) for part in net.modules())


def test_layer_output_is_pooled():
    net = _Net()
    expected = net.stages[0](net.stem(IMAGES)).mean(dim=(2, 3))
    assert torch.equal(extract_features(net, IMAGES, layer="stages.0"), expected)
    assert torch.equal(extract_features(net, IMAGES, layer="stages"), extract_features(net, IMAGES))
    assert torch.equal(extract_features(net, IMAGES), net(IMAGES))
    assert _hooks(net) == 0


def test_later_layers_are_not_run():
    net, calls = _Net(), []
    net.stages[2].register_forward_hook(lambda *_: calls.append(True))
    extract_features(net, IMAGES, layer="stages.0")
    assert not calls
    extract_features(net, IMAGES)
    assert calls


def test_gradients_stop_at_the_layer():
    net = _Net()
    extract_features(net, IMAGES, layer="stages.0").sum().backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert reached == {"stem.weight", "stem.bias", "stages.0.weight", "stages.0.bias"}


def test_misspelled_layer_suggests_nearest():
    with pytest.raises(ConfigError) as caught:
        extract_features(_Net(), IMAGES, layer="stage.0")
    assert str(caught.value) == "layer: the backbone has no 'stage.0'; did you mean 'stages.0'?"


def test_known_layers_have_names() -> None:
    with pytest.raises(ConfigError) as caught:
        find_layer(nn.Sequential(nn.ReLU()), "far from all")
    assert str(caught.value) == "layer: the backbone has no 'far from all'; known are 0"


def test_layer_never_called_is_refused():
    net = _Net()
    with pytest.raises(ConfigError, match=r"^layer: the backbone's forward pass never calls"):
        extract_features(net, IMAGES, layer="unused")
    assert _hooks(net) == 0


def test_hook_is_removed_after_an_error():
    net = _Net()
    net.fails = True
    with pytest.raises(KeyError, match="inside"):
        extract_features(net, IMAGES, layer="stages.0")
    assert _hooks(net) == 0


class _TimmLike(_Net):
    cls_token: Tensor | None = None
    num_prefix_tokens = 5  # with 4 patches there are 9 tokens, which is a square too

    def forward_features(self, x: Tensor) -> Tensor:
        tokens = self.stem(x)[:, :, :2, :2].flatten(2).transpose(1, 2)
        return torch.cat([x.new_full((len(x), 5, 4), 9.0), tokens], dim=1)


def test_forward_features_is_preferred():
    net = _TimmLike()
    torch.testing.assert_close(
        extract_features(net, IMAGES), net.stem(IMAGES)[:, :, :2, :2].mean((2, 3))
    )


def test_registers_are_no_class_token():
    with pytest.raises(ConfigError, match="has no class token"):
        extract_features(_TimmLike(), IMAGES, "cls")


def test_none_forward_features_is_ignored():
    net = _Net()
    net.forward_features = None
    assert torch.equal(extract_features(net, IMAGES), net(IMAGES))
