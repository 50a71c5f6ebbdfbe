"""Colours of a whole batch of crops: draws of their own, the distributions, and normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sp_plugin import Crops
from sp_plugin.crops import batch_colors
from sp_plugin.crops.batch_colors import color_crops, recolor
from sp_plugin.isolation import make_generator
from sp_plugin.structures import UncoloredCrops

SIDE = 12


def scaling(count: int, white: float, mean: Any, std: Any) -> Tensor:
    rows = torch.stack([torch.as_tensor(row).expand(3) for row in (white, mean, std)])
    return rows.expand(count, 3, 3)


def byte_crops(k: int = 2, count: int = 5) -> UncoloredCrops:
    pixels = torch.randint(256, (k * count, 3, SIDE, SIDE), dtype=torch.uint8)
    return UncoloredCrops(torch.rand(k, count, 4), pixels, scaling(count, 255.0, 0.0, 1.0))


def test_same_draws_for_the_same_generator():
    crops = byte_crops()
    before = torch.get_rng_state()
    first, again, other = (color_crops(crops, make_generator(n)).pixels for n in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert first.dtype == torch.float32 and first.min() >= 0 and first.max() <= 1


def test_each_image_has_its_normalization():
    """Each by its own image's numbers, whichever of the k crops it is; after the colours."""
    crops = byte_crops()
    plain = color_crops(crops, make_generator(0)).pixels
    mean, std = torch.rand(5, 3), torch.rand(5, 3) + 0.5
    rows = torch.stack([torch.full((5, 3), 255.0), mean, std], dim=1)
    made = color_crops(crops._replace(normalization=rows), make_generator(0))
    expected = (plain - mean.repeat(2, 1)[..., None, None]) / std.repeat(2, 1)[..., None, None]
    torch.testing.assert_close(made.pixels, expected)
    assert type(made) is Crops and torch.equal(made.boxes, crops.boxes)


def test_bytes_and_floats_give_the_same():
    crops = byte_crops()
    floats = crops._replace(pixels=crops.pixels / 255, normalization=scaling(5, 1.0, 0.0, 1.0))
    made = [color_crops(item, make_generator(0)).pixels for item in (crops, floats)]
    assert torch.equal(*made)


def test_channels_are_put_in_order():
    crops = byte_crops()
    plain = color_crops(crops, make_generator(0)).pixels
    swapped = color_crops(crops._replace(channels=(2, 1, 0)), make_generator(0)).pixels
    assert torch.equal(swapped, plain.flip(1))


def test_images_keep_their_normalization():
    rows = torch.rand(5, 3, 3)
    some = byte_crops()._replace(normalization=rows, channels=(0,)).of_images(torch.tensor([3, 1]))
    assert torch.equal(some.normalization, rows[[3, 1]]) and some.channels == (0,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_floats_become_float32(dtype: torch.dtype):
    pixels = torch.rand(10, 3, SIDE, SIDE).to(dtype)
    crops = UncoloredCrops(torch.rand(2, 5, 4), pixels, scaling(5, 1.0, 0.0, 1.0))
    assert color_crops(crops, make_generator(0)).pixels.dtype == torch.float32


@pytest.fixture
def factors(monkeypatch) -> dict[str, list[Tensor]]:
    """Factors of each operation, in the order in which the operations are called."""
    seen: dict[str, list[Tensor]] = {}

    def watched(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(images: Tensor, *args: Any) -> Tensor:
            seen.setdefault(function.__name__, []).extend(args)
            return function(images, *args)

        return call

    jitter = tuple((watched(adjust), *rest) for adjust, *rest in batch_colors._JITTER)
    monkeypatch.setattr(batch_colors, "_JITTER", jitter)
    monkeypatch.setattr(batch_colors, "_GREY_JITTER", jitter[:2])
    for function in (batch_colors.jitter_channels, batch_colors.gaussian_blur):
        monkeypatch.setattr(batch_colors, function.__name__, watched(function))
    return seen


def check_uniform(values: Tensor, low: float, high: float, unchanged: float, share: float) -> None:
    """Whether a share of the values is as without a change, and the others are uniform."""
    changed = values[values != unchanged]
    assert 1 - len(changed) / values.numel() == pytest.approx(share, abs=0.03)
    assert changed.min() >= low and changed.max() <= high
    deciles = torch.linspace(0, 1, 11)
    expected = low + (high - low) * deciles
    torch.testing.assert_close(
        changed.quantile(deciles), expected, atol=0.04 * (high - low), rtol=0
    )


SIMCLR = {
    "adjust_brightness": (0.6, 1.4, 1.0),
    "adjust_contrast": (0.6, 1.4, 1.0),
    "adjust_saturation": (0.8, 1.2, 1.0),
    "adjust_hue": (-0.1, 0.1, 0.0),
}


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_that_of_simclr(channels: int, factors):
    recolor(torch.rand(4000, channels, 4, 4), make_generator(0))
    names = list(SIMCLR)[: 4 if channels == 3 else 2]
    assert set(factors) == {*names, "gaussian_blur"}
    for name in names:
        check_uniform(factors[name][0], *SIMCLR[name], 0.2)
    unchanged = torch.stack([factors[name][0] == SIMCLR[name][2] for name in names])
    assert torch.equal(unchanged.all(0), unchanged.any(0))  # all or none of an image's
    changed = torch.stack([factors[name][0] for name in names])[:, ~unchanged[0]]
    assert (changed.corrcoef() - torch.eye(len(names))).abs().max() < 0.06


def test_bands_have_gains_and_offsets(factors):
    recolor(torch.rand(1000, 5, 4, 4), make_generator(0))
    assert set(factors) == {"jitter_channels", "gaussian_blur"}
    gain, offset = factors["jitter_channels"]
    assert gain.shape == offset.shape == (1000, 5)
    check_uniform(gain, 0.6, 1.4, 1.0, 0.2)
    check_uniform(offset, -0.4, 0.4, 0.0, 0.2)
    assert torch.equal(gain[:, 0] == 1, offset[:, 4] == 0)


@pytest.mark.parametrize(
    ("side", "kernel_size", "largest"), [(8, 3, 0.2), (32, 3, 2 / 7), (96, 9, 6 / 7), (224, 23, 2)]
)
def test_blur_is_that_of_simclr(side: int, kernel_size: int, largest: float, factors, monkeypatch):
    for name in ("_JITTER", "_GREY_JITTER"):
        monkeypatch.setattr(batch_colors, name, ())
    monkeypatch.setattr(batch_colors, "jitter_channels", lambda images, *_: images)
    seen = factors["gaussian_blur"] = []
    monkeypatch.setattr(batch_colors, "gaussian_blur", lambda images, *args: seen.extend(args))
    recolor(torch.empty(1, 1, 1, 1).expand(3000, 1, side, side + 9), make_generator(0))
    assert seen[0] == kernel_size
    check_uniform(seen[1], 0.1, largest, 0.0, 0.5)


def test_share_of_grey_images():
    made = recolor(torch.rand(2000, 3, 4, 4), make_generator(0))
    is_grey = made.std(1).amax((1, 2)) < 1e-5
    assert is_grey.float().mean() == pytest.approx(0.2, abs=0.03)


def test_order_changes_from_batch_to_batch(factors):
    orders = set()
    for n in range(60):
        factors.clear()
        recolor(torch.rand(2, 3, SIDE, SIDE), make_generator(n))
        *jitter, last = factors
        assert set(jitter) == set(SIMCLR) and last == "gaussian_blur"
        orders.add(tuple(jitter))
    assert len(orders) > 15
