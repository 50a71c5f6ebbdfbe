"""Which embedding is which view: by construction, never by luck."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sp_plugin import ConfigError, SpatialPrediction, SPConfig
from sp_plugin.features.extraction import extract_features
from sp_plugin.views.capture import FeatureCapture
from sp_plugin.views.matching import match_views, rows_equal, smallest_views
from sp_plugin.views.transform import ViewBoxes

B = 3


def student() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))


def make_views(*sides: int, seed: int = 0) -> tuple[list[Tensor], ViewBoxes]:
    generator = torch.Generator().manual_seed(seed)
    views = [torch.rand(B, 3, side, side, generator=generator) for side in sides]
    return views, ViewBoxes(
        torch.rand(len(sides), B, 4, generator=generator), torch.ones(len(sides), B, 2)
    )


MULTI = (8, 8, 6, 6, 6)


@given(st.permutations(range(5)), st.booleans(), st.booleans())
def test_views_match_in_any_call_order(order, joined, copied) -> None:
    """DINO and SwAV call once a view or, in their authors' code, once a size."""
    net, (views, places) = student(), make_views(*MULTI)
    watch = FeatureCapture(net)
    watch.open()
    given_ = [
        views[n].clone(memory_format=torch.channels_last) if copied else views[n] for n in order
    ]
    if joined:
        for side in (6, 8):
            net(torch.cat([view for view in given_ if view.shape[-1] == side]))
    else:
        for view in given_:
            net(view)
    out = watch.collect(views, places)
    watch.remove()
    assert watch.views == [2, 3, 4]
    for n, features in zip(watch.views, out.features, strict=True):
        assert torch.allclose(features, extract_features(net, views[n]), atol=1e-6)
    assert torch.equal(out.boxes, places.boxes[2:]) and torch.equal(out.flips, places.flips[2:])
    assert out.features.requires_grad


@given(st.permutations(range(3)))
def test_interleaved_views_are_matched(order) -> None:
    """MMSelfSup's SimCLR."""
    net, (views, places) = student(), make_views(8, 8, 8)
    watch = FeatureCapture(net)
    watch.open()
    net(torch.stack([views[n] for n in order], 1).flatten(0, 1))
    out = watch.collect(views, places)
    for features, view in zip(out.features, views, strict=True):
        assert torch.allclose(features, extract_features(net, view), atol=1e-6)
    assert torch.equal(out.boxes, places.boxes)


def test_no_grad_calls_are_ignored() -> None:
    net, (views, places) = student(), make_views(8, 8)
    watch = FeatureCapture(net)
    net(views[1])
    watch.open()
    with torch.no_grad():
        net(views[0])
    with pytest.raises(ConfigError, match="on 0 of the batch's 2 views"):
        watch.collect(views, places)
    net(views[1])
    with pytest.raises(ConfigError) as caught:
        watch.collect(views, places)
    line = str(caught.value)
    assert "on 1 of the batch's 2 views as they are" in line and "'view' or 'image'" in line
    net(views[0])
    assert watch.collect(views, places).features.requires_grad
    watch.close()
    net(views[0])
    assert not watch._calls
    watch.remove()
    assert not net._forward_hooks and not net._forward_pre_hooks


@pytest.mark.parametrize(
    "host",
    (
        lambda net, views: None,  # an encoder of its own: MAE's
        lambda net, views: [net(view + 0.01) for view in views],  # augmented on the GPU
        lambda net, views: net(views[0]),  # a student of one view
    ),
    ids=("never", "changed", "one"),
)
def test_fewer_than_two_views_is_refused(host: Any) -> None:
    net, (views, places) = student(), make_views(8, 8)
    watch = FeatureCapture(net)
    watch.open()
    host(net, views)
    with pytest.raises(
        ConfigError, match=r"^source: got 'host_views', but the backbone is called, with"
    ):
        watch.collect(views, places)


@pytest.mark.parametrize(
    "joined", (None, torch.cat, lambda views: torch.stack(views, 1).flatten(0, 1))
)
def test_reordered_views_are_left_out(joined: Any) -> None:
    net, watch = student(), None
    for step in range(4):
        views, places = make_views(8, 8, seed=step)
        given_ = views[::-1] if step % 2 else views
        watch = watch or FeatureCapture(net)
        watch.open()
        net(joined(given_)) if joined else [net(view) for view in given_]
        out = watch.collect(views, places)
        assert out.boxes.isnan().all() if step % 2 else torch.equal(out.boxes, places.boxes)
        loss = SpatialPrediction(4, SPConfig()).pair_loss(*out, step=0)
        assert loss.metrics["skipped_fraction"] == step % 2
        watch.close()


def test_modified_rows_are_left_out() -> None:
    net, (views, places) = student(), make_views(8, 8)
    watch = FeatureCapture(net)
    for step in range(2):
        watch.open()
        for n, view in enumerate(views):
            own = view.clone()
            if step and n:
                own[1, 0, 5, 5] += 0.5
            net(own)
        out = watch.collect(views, places)
    assert out.boxes.isnan().all(dim=2).tolist() == [[False] * 3, [False, True, False]]


def test_new_call_pattern_is_matched_again() -> None:
    net, watch = student(), None
    for step, size in enumerate((3, 2, 3)):
        views, places = make_views(8, 8, 6, 6, seed=step)
        views = [view[:size] for view in views]
        places = ViewBoxes(*(told[:, :size] for told in places))
        watch = watch or FeatureCapture(net)
        watch.open()
        wanted = views if step < 2 else views[:3]  # the last step lacks one
        for view in wanted[:: 1 if step else -1]:
            net(view)
        out = watch.collect(views, places)
        assert out.features.shape == (2, size, 4)
        assert out.boxes.isnan().all(dim=(1, 2)).tolist() == [False, step == 2]
        assert torch.allclose(out.features[0], extract_features(net, views[2]), atol=1e-6)


def test_equal_views_get_distinct_rows() -> None:
    view = torch.rand(2, 3, 4, 4)
    assert len(set(match_views([view, view], [view, view.clone()]).values())) == 2
    assert match_views([view], [view, view.clone()]).keys() == {0}


@pytest.mark.parametrize("layer", (None, "0"))
def test_layer_and_pool_are_used(layer: str | None) -> None:
    net, (views, places) = student(), make_views(8, 8)
    watch = FeatureCapture(net, layer=layer)
    watch.open()
    for view in views:
        net(view)
    out = watch.collect(views, places)
    for features, view in zip(out.features, views, strict=True):
        assert torch.allclose(features, extract_features(net, view, layer=layer), atol=1e-6)
    with pytest.raises(ConfigError, match="layer: the backbone has no 'O'"):
        FeatureCapture(net, layer="O")


class Encoder(nn.Module):
    """Asked by a method of its own, as lightly's masked transformers are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 4, 4), nn.LayerNorm(4)

    def extract_features(self, images: Tensor) -> Tensor:
        return self.norm(self.stem(images).flatten(2).transpose(1, 2))

    forward = extract_features


@pytest.mark.parametrize("called", (False, True))
def test_custom_method_is_captured_by_layer(called: bool) -> None:
    net, (views, places) = Encoder(), make_views(8, 8)
    for layer in (None, "norm"):
        watch = FeatureCapture(net, layer=layer)
        watch.open()
        for view in reversed(views):
            net(view) if called else net.encode(view)
        if layer or called:
            out = watch.collect(views, places)
            assert torch.allclose(out.features[0], net(views[0]).mean(1), atol=1e-6)
            assert torch.equal(out.boxes, places.boxes)
        else:
            with pytest.raises(ConfigError, match="say which layer gives the features"):
                watch.collect(views, places)
        watch.remove()
    assert not net.stem._forward_pre_hooks


def test_raw_backbone_input_is_matched() -> None:
    class Scaled(Encoder):
        def forward(self, images: Tensor) -> Tensor:
            return self.encode(images * 2 - 1)

    net, (views, places) = Scaled(), make_views(8, 8)
    watch = FeatureCapture(net)
    watch.open()
    for view in views:
        net(view)
    assert torch.allclose(watch.collect(views, places).features[1], net(views[1]).mean(1))


def test_keyword_arguments_are_captured() -> None:
    class Masked(nn.Module):
        def forward(self, keep: int, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    net, (views, places) = Masked(), make_views(8, 8)
    watch = FeatureCapture(net)
    watch.open()
    for view in views:
        net(keep=1, images=view.requires_grad_())
    assert torch.allclose(watch.collect(views, places).features[1], views[1].mean((2, 3)))
    with pytest.raises(ConfigError, match="the batch has 1 views, its transform make_views 2"):
        watch.collect(views[:1], places)
    with pytest.raises(ConfigError, match="turned, warped or padded"):
        again = FeatureCapture(net)
        again.open()
        for view in views:
            net(keep=1, images=view)
        again.collect(views, ViewBoxes(torch.full_like(places.boxes, torch.nan), places.flips))


def test_smallest_views_and_rows_equal() -> None:
    views, _ = make_views(8, 8, 6, 6, 4)
    assert smallest_views(match_views(views, views), views) == [2, 3]
    assert smallest_views(match_views(views[:1], views), views) == []
    assert rows_equal(views[0], views[0]).all()
    half = views[0].half()
    assert rows_equal(half, views[0]).all()  # a host in half precision
