"""The corruptions against other implementations of the same formulas, and by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy.ndimage import convolve as scipy_convolve
from scipy.ndimage import gaussian_filter
from sp_bench.corruptions import FAMILIES, NAMES, corrupt
from sp_bench.corruptions.filters import blur, convolve, motion_kernels, plasma
from sp_bench.corruptions.severities import LARGE, SMALL, strength


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
    expected = gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode="mirror", truncate=4)
    np.testing.assert_allclose(blur(x, 1.5).numpy(), expected, atol=1e-5)
    kernels = motion_kernels(torch.tensor([10.0, 20, 30, 40, -20, -40]), 4, 2)
    found = convolve(x, kernels)
    for image, kernel, made in zip(x, kernels, found, strict=True):
        for channel, result in zip(image.numpy(), made.numpy(), strict=True):
            # Deep learning's convolution is the correlation of signal processing.
            expected = scipy_convolve(channel, kernel.numpy()[::-1, ::-1], mode="mirror")
            np.testing.assert_allclose(result, expected, atol=1e-5)


def test_motion_kernel_is_half_gaussian():
    (kernel,) = motion_kernels(torch.tensor([0.0]), 3, 1)
    weights = torch.exp(-torch.arange(4.0).square() / 2)
    middle = kernel.shape[0] // 2
    torch.testing.assert_close(kernel[middle, middle : middle + 4], weights / weights.sum())
    assert float(kernel.sum()) == pytest.approx(1)


def test_faster_decay_gives_smoother_plasma():
    def roughness(decay: float) -> float:
        clouds = plasma(8, 64, decay, torch.Generator().manual_seed(0))
        assert clouds.amin() == 0 and clouds.amax() == 1
        return float(clouds.diff(dim=3).abs().mean() / clouds.std())

    assert roughness(1.4) > 1.5 * roughness(2) > 2 * roughness(3)


def test_glass_blur_shift_is_bounded():
    ramp = torch.arange(40, dtype=torch.uint8).mul(5).expand(2, 3, 40, 40).contiguous()
    moved = corrupt(ramp, "glass_blur", 1).float() - ramp
    # Blur of 0.06 px moves nothing; a pixel is 5, and 1 px of 32 is at most 2 px here.
    assert 5 <= moved.abs().max() <= 11


def test_elastic_of_zero_keeps_the_image(images):
    from sp_bench.corruptions.digital import elastic

    x = images.float() / 255
    torch.testing.assert_close(elastic(x, (0, 0, 0), 1, torch.Generator()), x, atol=1e-5, rtol=0)


def test_defocus_spreads_a_point_over_a_disc():
    point = torch.zeros(1, 3, 41, 41, dtype=torch.uint8)
    point[..., 20, 20] = 255
    spread = corrupt(torch.nn.functional.interpolate(point, 41), "defocus_blur", 5)[0, 0].float()
    rows, columns = torch.nonzero(spread > spread.max() / 2, as_tuple=True)
    reach = torch.hypot(rows - 20.0, columns - 20.0).max()
    assert reach == pytest.approx(1.5 * 41 / 32, abs=0.7)
