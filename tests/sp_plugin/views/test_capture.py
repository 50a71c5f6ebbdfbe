"""FeatureCapture: which features belong to which view, and views that do not count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sp_plugin import ConfigError, SpatialPrediction, SPConfig, ViewBoxes
from sp_plugin.features.extraction import extract_features
from sp_plugin.views.capture import FeatureCapture
from sp_plugin.views.matching import match_views, rows_equal, smallest_views

B = 3
MULTI_CROP_SIDES = (8, 8, 6, 6, 6)


def student() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))


def make_views(*sides: int, seed: int = 0) -> tuple[list[Tensor], ViewBoxes]:
    generator = torch.Generator().manual_seed(seed)
    views = [torch.rand(B, 3, side, side, generator=generator) for side in sides]
    return views, ViewBoxes(
        torch.rand(len(sides), B, 4, generator=generator), torch.ones(len(sides), B, 2)
    )


@given(st.permutations(range(5)), st.booleans(), st.booleans())
def test_views_match_in_any_call_order(order, join, copied) -> None:
    """DINO and SwAV call the student once per view or, in their authors' code, once per size."""
    net, (views, view_boxes) = student(), make_views(*MULTI_CROP_SIDES)
    capture = FeatureCapture(net)
    capture.start()
    inputs = [
        views[n].clone(memory_format=torch.channels_last) if copied else views[n] for n in order
    ]
    if join:
        for side in (6, 8):
            net(torch.cat([view for view in inputs if view.shape[-1] == side]))
    else:
        for view in inputs:
            net(view)
    out = capture.collect(views, view_boxes)
    capture.remove()
    assert capture.selected_views == [2, 3, 4]
    for n, features in zip(capture.selected_views, out.features, strict=True):
        assert torch.allclose(features, extract_features(net, views[n]), atol=1e-6)
    assert torch.equal(out.boxes, view_boxes.boxes[2:])
    assert torch.equal(out.flips, view_boxes.flips[2:])
    assert out.features.requires_grad


@given(st.permutations(range(3)))
def test_interleaved_views_are_matched(order) -> None:
    """As in MMSelfSup's SimCLR: the views of an image are next to each other."""
    net, (views, view_boxes) = student(), make_views(8, 8, 8)
    capture = FeatureCapture(net)
    capture.start()
    net(torch.stack([views[n] for n in order], 1).flatten(0, 1))
    out = capture.collect(views, view_boxes)
    for features, view in zip(out.features, views, strict=True):
        assert torch.allclose(features, extract_features(net, view), atol=1e-6)
    assert torch.equal(out.boxes, view_boxes.boxes)


def test_no_grad_calls_are_ignored() -> None:
    net, (views, view_boxes) = student(), make_views(8, 8)
    capture = FeatureCapture(net)
    net(views[1])
    capture.start()
    with torch.no_grad():
        net(views[0])
    with pytest.raises(ConfigError, match="on 0 of the batch's 2 views"):
        capture.collect(views, view_boxes)
    net(views[1])
    with pytest.raises(ConfigError) as caught:
        capture.collect(views, view_boxes)
    line = str(caught.value)
    assert "on 1 of the batch's 2 views as they are" in line and "'view' or 'image'" in line
    net(views[0])
    assert capture.collect(views, view_boxes).features.requires_grad
    capture.stop()
    net(views[0])
    assert not capture._calls
    capture.remove()
    assert not net._forward_hooks and not net._forward_pre_hooks


@pytest.mark.parametrize(
    "host",
    (
        lambda net, views: None,  # the method has another encoder, as MAE
        lambda net, views: [net(view + 0.01) for view in views],  # augmented on the device
        lambda net, views: net(views[0]),  # the student encodes one view
    ),
    ids=("never", "changed", "one"),
)
def test_fewer_than_two_views_is_refused(host: Any) -> None:
    net, (views, view_boxes) = student(), make_views(8, 8)
    capture = FeatureCapture(net)
    capture.start()
    host(net, views)
    with pytest.raises(
        ConfigError, match=r"^source: got 'host_views', but the backbone is called, with"
    ):
        capture.collect(views, view_boxes)


@pytest.mark.parametrize(
    "join", (None, torch.cat, lambda views: torch.stack(views, 1).flatten(0, 1))
)
def test_reordered_views_are_left_out(join: Any) -> None:
    net, capture = student(), None
    for step in range(4):
        views, view_boxes = make_views(8, 8, seed=step)
        inputs = views[::-1] if step % 2 else views
        capture = capture or FeatureCapture(net)
        capture.start()
        net(join(inputs)) if join else [net(view) for view in inputs]
        out = capture.collect(views, view_boxes)
        assert out.boxes.isnan().all() if step % 2 else torch.equal(out.boxes, view_boxes.boxes)
        loss = SpatialPrediction(4, SPConfig()).pair_loss(*out, step=0)
        assert loss.metrics["skipped_fraction"] == step % 2
        capture.stop()


def test_modified_rows_are_left_out() -> None:
    net, (views, view_boxes) = student(), make_views(8, 8)
    capture = FeatureCapture(net)
    for step in range(2):
        capture.start()
        for n, view in enumerate(views):
            images = view.clone()
            if step and n:
                images[1, 0, 5, 5] += 0.5
            net(images)
        out = capture.collect(views, view_boxes)
    assert out.boxes.isnan().all(dim=2).tolist() == [[False] * 3, [False, True, False]]


def test_new_call_pattern_is_matched_again() -> None:
    net, capture = student(), None
    for step, size in enumerate((3, 2, 3)):
        views, view_boxes = make_views(8, 8, 6, 6, seed=step)
        views = [view[:size] for view in views]
        view_boxes = ViewBoxes(*(part[:, :size] for part in view_boxes))
        capture = capture or FeatureCapture(net)
        capture.start()
        inputs = views if step < 2 else views[:3]  # one view is not encoded in the last step
        for view in inputs[:: 1 if step else -1]:
            net(view)
        out = capture.collect(views, view_boxes)
        assert out.features.shape == (2, size, 4)
        assert out.boxes.isnan().all(dim=(1, 2)).tolist() == [False, step == 2]
        assert torch.allclose(out.features[0], extract_features(net, views[2]), atol=1e-6)


def test_equal_views_get_distinct_rows() -> None:
    view = torch.rand(2, 3, 4, 4)
    assert len(set(match_views([view, view], [view, view.clone()]).values())) == 2
    assert match_views([view], [view, view.clone()]).keys() == {0}


class ClassToken(nn.Module):
    """A class token and four patch tokens."""

    def forward(self, images: Tensor) -> Tensor:
        tokens = nn.functional.avg_pool2d(images, images.shape[-1] // 2).flatten(2).transpose(1, 2)
        return torch.cat([images.amax((2, 3)).unsqueeze(1), tokens], dim=1)


@pytest.mark.parametrize("layer", (None, "0"))
def test_layer_and_pool_are_used(layer: str | None) -> None:
    net, (views, view_boxes) = student(), make_views(8, 8)
    capture = FeatureCapture(net, layer=layer)
    capture.start()
    for view in views:
        net(view)
    out = capture.collect(views, view_boxes)
    for features, view in zip(out.features, views, strict=True):
        assert torch.allclose(features, extract_features(net, view, layer=layer), atol=1e-6)
    with pytest.raises(ConfigError, match="layer: the backbone has no 'O'"):
        FeatureCapture(net, layer="O")
    tokens = ClassToken()
    capture = FeatureCapture(tokens, "cls")
    capture.start()
    for view in views:
        tokens(view)
    out = capture.collect(views, view_boxes)
    for features, view in zip(out.features, views, strict=True):
        assert torch.equal(features, tokens(view)[:, 0])


class Encoder(nn.Module):
    """Called by a method of its own, as lightly's masked transformers are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 4, 4), nn.LayerNorm(4)

    def encode(self, images: Tensor) -> Tensor:
        return self.norm(self.stem(images).flatten(2).transpose(1, 2))

    forward = encode


@pytest.mark.parametrize("is_called", (False, True))
def test_custom_method_is_captured_by_layer(is_called: bool) -> None:
    net, (views, view_boxes) = Encoder(), make_views(8, 8)
    for layer in (None, "norm"):
        capture = FeatureCapture(net, layer=layer)
        capture.start()
        for view in reversed(views):
            net(view) if is_called else net.encode(view)
        if layer or is_called:
            out = capture.collect(views, view_boxes)
            assert torch.allclose(out.features[0], net(views[0]).mean(1), atol=1e-6)
            assert torch.equal(out.boxes, view_boxes.boxes)
        else:
            with pytest.raises(ConfigError, match="name the layer that gives the features"):
                capture.collect(views, view_boxes)
        capture.remove()
    assert not net.stem._forward_pre_hooks


def test_raw_backbone_input_is_matched() -> None:
    class Scaled(Encoder):
        def forward(self, images: Tensor) -> Tensor:
            return self.encode(images * 2 - 1)

    net, (views, view_boxes) = Scaled(), make_views(8, 8)
    capture = FeatureCapture(net)
    capture.start()
    for view in views:
        net(view)
    assert torch.allclose(capture.collect(views, view_boxes).features[1], net(views[1]).mean(1))


def test_keyword_arguments_are_captured() -> None:
    class Masked(nn.Module):
        def forward(self, keep: int, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    net, (views, view_boxes) = Masked(), make_views(8, 8)
    capture = FeatureCapture(net)
    capture.start()
    for view in views:
        net(keep=1, images=view.requires_grad_())
    assert torch.allclose(capture.collect(views, view_boxes).features[1], views[1].mean((2, 3)))
    with pytest.raises(ConfigError, match="the batch has 1 views, its transform made 2"):
        capture.collect(views[:1], view_boxes)
    with pytest.raises(ConfigError, match="rotated, warped or padded"):
        other = FeatureCapture(net)
        other.start()
        for view in views:
            net(keep=1, images=view)
        other.collect(
            views, ViewBoxes(torch.full_like(view_boxes.boxes, torch.nan), view_boxes.flips)
        )


def test_smallest_views_and_rows_equal() -> None:
    views, _ = make_views(8, 8, 6, 6, 4)
    assert smallest_views(match_views(views, views), views) == [2, 3]
    assert smallest_views(match_views(views[:1], views), views) == []
    assert rows_equal(views[0], views[0]).all()
    half = views[0].half()
    assert rows_equal(half, views[0]).all()  # a method in half precision


def test_stem_of_other_channels_is_seen() -> None:
    """A student that is called by a method of its own is seen by the layer that takes images."""
    net = nn.Sequential(nn.Conv2d(13, 8, 3), nn.Conv2d(8, 4, 1))
    views = [torch.rand(B, 13, 8, 20) for _ in range(2)]
    view_boxes = ViewBoxes(torch.rand(2, B, 4), torch.ones(2, B, 2))
    capture = FeatureCapture(net, layer="1", channels=13)
    with capture.recording():
        outputs = [net[1](net[0](view)) for view in views]
        found = capture.collect(views, view_boxes).features
    torch.testing.assert_close(found, torch.stack(outputs).mean((3, 4)))
    capture.remove()
