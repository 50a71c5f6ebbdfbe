"""Which tensor of a batch is the view: channels, size, names, and what the errors say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import ConfigError, SPSession
from sp_plugin.features.input_size import input_channels
from sp_plugin.view_search import find_view, find_views, named_views


def images(side: int = 8, channels: int = 3, n: int = 2) -> Tensor:
    return torch.rand(n, channels, side, side)


VIEW, OTHER, LOCAL = images(), images(), images(4)


@pytest.mark.parametrize(
    ("batch", "path"),
    [
        (VIEW, ""),
        ([VIEW, OTHER, LOCAL], "0"),
        ([LOCAL, LOCAL, VIEW], "2"),
        ({"mask": images(8, 1), "image": VIEW}, "image"),
        ({"depth": images(16, 1), "normals": LOCAL, "image": VIEW}, "image"),
        ({"integers": (VIEW * 255).byte(), "label": torch.zeros(2), "x": [VIEW]}, "x.0"),
        ([{"image": VIEW, "flow": images(8, 2)}, torch.arange(2)], "0.image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_largest_view_is_found(batch: Any, path: str):
    found = find_view(batch)
    assert found.path == path and found.images is VIEW


@pytest.mark.parametrize(
    ("view", "expected"),
    [(0, VIEW), (1, LOCAL), (2, OTHER), ("a.local", LOCAL), ("local", LOCAL), ("b.0", OTHER),
     ("b", OTHER), ("a", VIEW)],
)  # fmt: skip
def test_view_is_named(view: int | str, expected: Tensor):
    batch = ({"a": {"full": VIEW, "local": LOCAL}}, {"b": [OTHER, "label"]})
    assert find_view(batch, view).images is expected


@pytest.mark.parametrize("view", [3, "c"])
def test_unknown_name_lists_the_views(view: int | str):
    batch = {"a": VIEW, "b": [LOCAL, images(8, 1)], "c.d": OTHER}
    if view == "c":
        batch.pop("c.d")
    line = rf"^view: .*{view}.*a \(2, 3, 8, 8\), b.0 \(2, 3, 4, 4\)"
    with pytest.raises(ConfigError, match=line):
        find_view(batch, view)


def test_stacked_views_are_taken_apart():
    stacked = torch.rand(2, 4, 3, 8, 8)
    assert [view.path for view in named_views([stacked, 1])] == ["0.0", "0.1", "0.2", "0.3"]
    for index, view in enumerate(find_views(stacked)):
        assert torch.equal(view, stacked[:, index])
        assert torch.equal(find_view({"x": stacked}, f"x.{index}").images, view)


def test_channels_follow_the_backbone():
    batch = {"rgb": images(16), "bands": images(8, 13)}
    assert find_view(batch, None, 13).path == "bands"
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), nn.LazyConv2d(8, 3), nn.Conv2d(13, 8, 3)]
    assert [input_channels(net) for net in nets] == [None, None, 13]


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        ([], "batch: a list without images; SP takes floating point (B, 3, H, W)"),
        (
            {"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)},
            "batch: a dict without images; SP takes floating point (B, 3, H, W), it has image "
            "(2, 3, 8, 8) uint8; convert and normalise them before the training step, as the "
            "backbone needs them",
        ),
        (
            torch.zeros(2, 8, 8, 3),
            "batch: a Tensor without images; SP takes floating point (B, 3, H, W), it has "
            "(2, 8, 8, 3) float32",
        ),
    ],
)
def test_no_view_says_what_there_is(batch: Any, line: str):
    with pytest.raises(ConfigError) as caught:
        find_view(batch)
    assert str(caught.value) == line


PAIR = torch.rand(2, 26, 8, 8)


@pytest.mark.parametrize(
    ("batch", "view", "expected"),
    [
        (PAIR, "[:13]", PAIR[:, :13]),
        ({"image": PAIR, "other": torch.rand(2, 13, 4, 4)}, "image[:13]", PAIR[:, :13]),
        ([{"image": PAIR}], "image[13:]", PAIR[:, 13:]),
        ([{"image": PAIR}], "0.image[5:18]", PAIR[:, 5:18]),
    ],
)
def test_view_is_a_part_of_the_channels(batch: Any, view: str, expected: Tensor):
    assert torch.equal(find_view(batch, view, 13).images, expected)


@pytest.mark.parametrize(
    ("batch", "view", "line"),
    [
        (
            {"image": PAIR, "rgb": images()},
            None,
            "batch: image has 26 channels, 2 images of the 13 that the backbone takes; name one of "
            "them by view='image[:13]' or view='image[13:]'",
        ),
        (
            [torch.rand(2, 39, 8, 8)],
            None,
            "batch: 0 has 39 channels, 3 images of the 13 that the backbone takes; name one of "
            "them by view='0[:13]' or view='0[26:]'",
        ),
        (
            PAIR,
            None,
            "batch: the tensor has 26 channels, 2 images of the 13 that the backbone takes; name "
            "one of them by view='[:13]' or view='[13:]'",
        ),
        (
            {"image": PAIR},
            "image[:12]",
            "view: got 'image[:12]', which has 12 channels, takes 13, which the backbone takes; "
            "the batch has image (2, 26, 8, 8)",
        ),
        (
            {"image": PAIR},
            "img[:13]",
            "view: the batch has no 'img'; it has image (2, 26, 8, 8)",
        ),
        (
            {"rgb": images()},
            None,
            "batch: a dict without images; SP takes floating point (B, 13, H, W), it has rgb "
            "(2, 3, 8, 8) float32",
        ),
    ],
)
def test_wrong_channels_say_what_to_name(batch: Any, view: str | None, line: str):
    with pytest.raises(ConfigError) as caught:
        find_view(batch, view, 13)
    assert str(caught.value) == line


def test_rgb_is_no_three_grey_images():
    with pytest.raises(ConfigError, match=r"SP takes floating point \(B, 1, H, W\), it has \("):
        find_view(images(), None, 1)


def test_session_takes_half_of_the_channels():
    backbone, settings = nn.Conv2d(13, 4, 3), {"hidden_dim": 8, "relative_weight": False}
    pair = torch.rand(4, 26, 24, 24)
    out = SPSession(backbone, view="image[13:]", **settings)({"image": pair})
    assert torch.equal(out.loss, SPSession(backbone, **settings)(pair[:, 13:]).loss)
    with pytest.raises(ConfigError, match=r"^batch: image has 26 channels"):
        SPSession(backbone, **settings)({"image": pair})


def test_layers_before_the_first_convolution():
    """Pixels move to channels first, or a layer of another kind embeds the patches."""
    stem = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 8, 1))
    assert SPSession(stem, hidden_dim=8)(
        {"bands": images(8, 13), "rgb": images(32)}
    ).loss.isfinite()
    patches = nn.Sequential(nn.PixelUnshuffle(8), nn.Flatten(2), Last(), nn.Linear(5 * 64, 8))
    out = SPSession(patches, hidden_dim=8)({"rgb": images(32), "bands": images(32, 5)})
    assert out.loss.isfinite()


class Last(nn.Module):
    """Channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def test_session_takes_the_named_view():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    batch = {"normals": torch.zeros(4, 3, 24, 24), "image": torch.rand(4, 3, 24, 24)}
    settings = {"hidden_dim": 8, "relative_weight": False}
    out = SPSession(backbone, view="image", **settings)(batch)
    assert torch.equal(out.loss, SPSession(backbone, **settings)(batch["image"]).loss)
    with pytest.raises(ConfigError, match=r"^view: the batch has no 'imag'; it has normals"):
        SPSession(backbone, view="imag", **settings)(batch)
