"""The corruptions against other implementations of the same formulas, and by hand."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import reference
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy.ndimage import convolve as scipy_convolve
from scipy.ndimage import gaussian_filter
from scipy.ndimage import zoom as scipy_zoom
from sp_bench.corruptions import FAMILIES, NAMES, corrupt
from sp_bench.corruptions.blur import glass
from sp_bench.corruptions.digital import elastic
from sp_bench.corruptions.filters import blur, convolve, motion_blur, plasma, zoom_in
from sp_bench.corruptions.severities import LARGE, SMALL, strength

CHANGES = json.loads(reference.FILE.read_text())


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Soft shapes in colour, 40 px: neither black nor white, so that nothing is cut."""
    rng = np.random.default_rng(0)
    pixels = gaussian_filter(rng.normal(size=(6, 3, 40, 40)), (0, 0, 2, 2))
    pixels = 127 + 30 * pixels / pixels.std(axis=(2, 3), keepdims=True)
    return torch.from_numpy(pixels.clip(20, 235).astype(np.uint8))


def mean_change(images, name, severity, seed=0) -> float:
    made = corrupt(images, name, severity, seed)
    return float((made.float() - images.float()).abs().mean())


@pytest.mark.parametrize("name", NAMES)
def test_corruption_depends_on_seed_only(images, name):
    before = torch.get_rng_state()
    torch.manual_seed(1)
    one = corrupt(images, name, 3)
    torch.manual_seed(2)
    assert torch.equal(corrupt(images, name, 3), one)
    torch.set_rng_state(before)
    assert one.dtype == torch.uint8 and one.shape == images.shape
    drawn = name not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate",
                         "jpeg_compression")  # fmt: skip
    assert drawn != torch.equal(corrupt(images, name, 3, seed=1), one)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"elastic_transform", "glass_blur", "frost"}))
@pytest.mark.parametrize("side", [40, 112])
def test_severity_5_is_stronger_than_1(images, name, side):
    shown = torch.nn.functional.interpolate(images, size=side)
    assert mean_change(shown, name, 5) > mean_change(shown, name, 1) > 0


def test_15_corruptions_of_5_severities():
    assert [len(family) for family in FAMILIES.values()] == [3, 4, 4, 4]
    assert SMALL.keys() == LARGE.keys() == set(NAMES)
    assert {len(each) for table in (SMALL, LARGE) for each in table.values()} == {5}


def test_lengths_scale_with_image_size():
    assert strength("motion_blur", 1, 32) == ((6, 1), 1)
    assert strength("motion_blur", 1, 80) == ((6, 1), 2.5)
    assert strength("motion_blur", 1, 96)[0] == (10, 3)
    assert strength("motion_blur", 1, 224)[1] == 1


def test_noise_has_the_stated_strength():
    grey = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)
    noisy = corrupt(grey, "gaussian_noise", 5).float() / 255
    assert float(noisy.std()) == pytest.approx(0.10, rel=0.02)
    assert float(noisy.mean()) == pytest.approx(128 / 255, abs=0.004)
    # A mean of 50 x 0.502 photons: their spread is its root.
    shots = corrupt(grey, "shot_noise", 5).float() / 255
    assert float(shots.std()) == pytest.approx((0.502 / 50) ** 0.5, rel=0.03)
    impulses = corrupt(grey, "impulse_noise", 5)
    for value in (0, 255):
        assert float((impulses == value).double().mean()) == pytest.approx(0.035, rel=0.1)
    assert float(((impulses > 0) & (impulses < 255)).double().mean()) == pytest.approx(
        0.93, abs=0.01
    )


def test_brightness_matches_matplotlib_hsv(images):
    hsv = rgb_to_hsv(images.permute(0, 2, 3, 1).numpy() / 255)
    hsv[..., 2] = (hsv[..., 2] + 0.15).clip(0, 1)
    expected = hsv_to_rgb(hsv) * 255
    made = corrupt(images, "brightness", 3).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(made, expected, atol=1.01)
    black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert corrupt(black, "brightness", 3).unique().tolist() == [38]


def test_contrast_scales_around_the_mean(images):
    x = images.numpy() / 255
    mean = x.mean(axis=(2, 3), keepdims=True)
    expected = ((x - mean) * 0.15 + mean) * 255
    np.testing.assert_allclose(corrupt(images, "contrast", 5).numpy(), expected, atol=1.01)


def test_jpeg_matches_pil(images):
    made = corrupt(images, "jpeg_compression", 5)
    for image, found in zip(images, made, strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=40)
        expected = np.asarray(Image.open(file)).astype(int)
        assert np.abs(expected - found.permute(1, 2, 0).numpy().astype(int)).mean() < 1


def test_blur_and_convolve_match_scipy(images):
    x = images.float() / 255
    for sigma in (1.5, 60.0):  # the second reaches beyond both edges
        for mode, of_scipy in (("edge", "nearest"), ("symmetric", "reflect")):
            expected = gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode=of_scipy, truncate=3)
            np.testing.assert_allclose(blur(x, sigma, mode, 3).numpy(), expected, atol=1e-5)
    kernel = torch.rand(5, 5, generator=torch.Generator().manual_seed(0))
    for image, made in zip(x, convolve(x, kernel), strict=True):
        for channel, result in zip(image.numpy(), made.numpy(), strict=True):
            # Deep learning's convolution is the correlation of signal processing.
            expected = scipy_convolve(channel, kernel.numpy()[::-1, ::-1], mode="mirror")
            np.testing.assert_allclose(result, expected, atol=1e-5)


def test_motion_blur_is_half_gaussian():
    point = torch.zeros(2, 1, 21, 21)
    point[..., 10, 10] = 1
    along, across = motion_blur(point, torch.tensor([0.0, 90.0]), 3, 1)[:, 0]
    weights = torch.exp(-torch.arange(7.0).square() / 2).flip(0)
    torch.testing.assert_close(along[10, 4:11], weights / weights.sum())
    torch.testing.assert_close(across, along.T)
    edge = motion_blur(torch.ones(1, 1, 9, 9), torch.tensor([30.0]), 3, 1)
    torch.testing.assert_close(edge, torch.ones_like(edge))


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.13, 1.3, 3.0])
def test_zoom_in_matches_scipy(images, factor):
    side = images.shape[-1]
    inner = int(np.ceil(side / factor))
    start = (side - inner) // 2
    for image, made in zip(images.numpy() / 255, zoom_in(images / 255, factor), strict=True):
        center = image[:, start : start + inner, start : start + inner]
        whole = scipy_zoom(center, (1, factor, factor), order=1)
        cut = (whole.shape[-1] - side) // 2
        expected = whole[:, cut : cut + side, cut : cut + side]
        np.testing.assert_allclose(made.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("decay", "roughness"), [(1.4, 0.144), (2, 0.066), (3, 0.055)])
def test_plasma_is_as_rough_as_reference(decay, roughness):
    """As 200 maps of 64 px by ``plasma_fractal`` of imagecorruptions-imaug."""
    clouds = plasma(64, 64, decay, torch.Generator().manual_seed(0))
    assert clouds.amin() == 0 and clouds.amax() == 1
    found = float(clouds.diff(dim=3).abs().mean() / clouds.std())
    assert found == pytest.approx(roughness, rel=0.05)


def test_glass_blur_moves_pixels_in_turn():
    """The authors' loop, for the same draws: a later pixel has been moved before an earlier one."""
    side, reach = 24, 3
    rng = torch.Generator().manual_seed(0)
    numbers = torch.arange(side * side).view(1, 1, side, side).float() / 2**10
    moved = glass(numbers * 2**10 / 255, (0, reach, 1), 1, rng)
    extent = side - 2 * reach
    shift = torch.randint(-reach, reach, (2, extent, extent), generator=rng.manual_seed(0))
    expected = np.arange(side * side).reshape(side, side)
    for row in range(side - reach, reach, -1):
        for column in range(side - reach, reach, -1):
            down, right = shift[:, row - reach - 1, column - reach - 1].tolist()
            expected[row, column] = expected[row + down, column + right]
    assert (moved[0, 0] * 255).round().int().tolist() == expected.tolist()


def test_elastic_moves_by_the_stated_length():
    ramp = torch.arange(224.0).expand(4, 1, 224, 224) / 224
    moved = elastic(ramp, (12.2, 2.44, 0), 1, torch.Generator().manual_seed(0)) - ramp
    # Noise of variance 1/3, blurred by sigma: its deviation is divided by sigma sqrt(4 pi).
    expected = 12.2 * (1 / 3) ** 0.5 / (2.44 * (4 * np.pi) ** 0.5)
    assert float((moved[..., 20:-20] * 224).std()) == pytest.approx(expected, rel=0.02)


def test_elastic_of_zero_keeps_the_image(images):
    x = images.float() / 255
    torch.testing.assert_close(elastic(x, (0, 0, 0), 1, torch.Generator()), x, atol=1e-5, rtol=0)


def test_defocus_spreads_a_point_over_a_disc():
    point = torch.zeros(1, 3, 41, 41, dtype=torch.uint8)
    point[..., 20, 20] = 255
    spread = corrupt(torch.nn.functional.interpolate(point, 41), "defocus_blur", 5)[0, 0].float()
    rows, columns = torch.nonzero(spread > spread.max() / 2, as_tuple=True)
    reach = torch.hypot(rows - 20.0, columns - 20.0).max()
    assert reach == pytest.approx(1.5 * 41 / 32, abs=0.7)


EACH_SEVERITY = [
    3, *(pytest.param(severity, marks=pytest.mark.slow) for severity in (1, 2, 4, 5))
]  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("severity", EACH_SEVERITY)
def test_change_is_that_of_the_reference(name, severity):
    clean = reference.photographs()
    draws = 16 if name in reference.DRAWN_PER_IMAGE else 1
    images = torch.from_numpy(clean.transpose(0, 3, 1, 2)).repeat(draws, 1, 1, 1)
    change = reference.root_mean_square(corrupt(images, name, severity).numpy(), images.numpy())
    assert change == pytest.approx(CHANGES[name][severity - 1], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_reference_is_the_library(name):
    pytest.importorskip("imagecorruptions", reason="pip install imagecorruptions-imaug==1.1.5")
    np.random.seed(1)  # noqa: NPY002
    draws = 50 if name in reference.DRAWN_PER_IMAGE else 1
    assert reference.measure(name, 3, draws) == pytest.approx(CHANGES[name][2], rel=0.05)
