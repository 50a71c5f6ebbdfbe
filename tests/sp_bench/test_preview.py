from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sp_bench.errors import UsageError
from sp_bench.preview import read_views, sample_preview, save_preview, show_recorded_step
from sp_bench.report.pair_description import describe_pair
from sp_bench.report.pair_preview import draw_preview, footnote

from sp_plugin import Crops, SpatialPrediction, SPConfig, SPSession
from sp_plugin.crops.boxes import cxcywh_to_xyxy
from sp_plugin.isolation import make_generator


@pytest.fixture
def image_paths(tmp_path: Path) -> list[Path]:
    """Six readable images, wider than high, and two that are not."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 40, 56, 3), dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, pixels in zip(paths, noise, strict=True):
        Image.fromarray(pixels).save(path)
    (tmp_path / "torn.png").write_bytes(paths[0].read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("no image")
    return [*paths, tmp_path / "torn.png", tmp_path / "text.jpg"]


@pytest.mark.parametrize(
    "more", [{"sharpness": "equal"}, {"sharpness": "native"}, {"num_crops": 3}], ids=str
)
def test_preview_matches_training_crops(image_paths: list[Path], more: dict[str, Any]) -> None:
    config = SPConfig(**more, target_encoding="anchor")
    preview = sample_preview(image_paths[:6], config=config, side=32, count=4, seed=5)
    sp = SpatialPrediction(8, config.resolve(32))
    boxes, crops = sp.sample_crops(preview.frames.float() / 255, make_generator(5))
    assert torch.equal(preview.boxes, boxes[:2])
    assert torch.equal(preview.crops[0], crops[:4]) and torch.equal(preview.crops[1], crops[4:8])
    assert torch.equal(preview.targets, sp.targets.encode(*boxes[:2]))
    assert ("one pair of the 3 crops" in footnote(preview)) is (config.num_crops == 3)
    assert preview.windows is None  # the view is the window


def test_window_holds_both_crops(image_paths: list[Path]) -> None:
    preview = sample_preview(
        image_paths[:6], config=SPConfig(source="image"), side=32, count=6, seed=1
    )
    assert preview.windows is not None and bool((preview.windows[:, 2] < 1).all())
    window, inside = cxcywh_to_xyxy(preview.windows), cxcywh_to_xyxy(preview.boxes)
    assert bool((inside[..., :2] >= window[:, :2] - 1e-5).all())
    assert bool((inside[..., 2:] <= window[:, 2:] + 1e-5).all())


def test_frames_are_center_cropped(tmp_path: Path) -> None:
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, 32:64, 0] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    frames, unreadable = read_views([tmp_path / "wide.png"], side=32, count=1, seed=0)
    assert frames.shape == (1, 3, 32, 32) and unreadable == 0
    assert bool((frames[0, 0] == 200).all())


def test_seed_selects_the_images(image_paths: list[Path]) -> None:
    one, again, other = (read_views(image_paths[:6], 16, 3, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_unreadable_images_are_counted(
    image_paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    preview = sample_preview(image_paths, config=SPConfig(), side=32, count=8)
    assert len(preview.frames) == 6 and preview.unreadable == 2
    assert "2 unreadable images" in caplog.text
    assert "skipped: 2" in footnote(preview)


def test_nothing_to_draw_is_one_line_error(image_paths: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"^data: none of the 2 files .* truncated; copy it again"):
        sample_preview(image_paths[6:], config=SPConfig(), side=32)
    with pytest.raises(UsageError, match=r"^count: got 0, "):
        sample_preview(image_paths, config=SPConfig(), side=32, count=0)
    with pytest.raises(UsageError, match=r"^side: got 8, "):
        sample_preview(image_paths, config=SPConfig(), side=8)


@pytest.mark.parametrize(
    ("b", "encoding", "said"),
    [
        ((0.9, 0.4, 0.2, 0.2), "symmetric", "2.0 crop sides right of a, 0.5 below;\nit is as"),
        ((0.1, 0.1, 0.2, 0.2), "symmetric", "2.0 crop sides left of a, 1.0 above;\nit is as"),
        ((0.9, 0.3, 0.8, 0.8), "symmetric", "1.0 crop sides right of a, level with it;\n"
         "it is larger, its side 4.00 times a's"),
        ((0.9, 0.3, 0.8, 0.8), "anchor", "2.0 sides of a right of a, level with it;\n"),
        ((0.5, 0.2, 0.1, 0.1), "image", "0.10 of the image straight above a;\n"
         "it is smaller, its side 0.50 times a's"),
        ((0.5, 0.6, 0.2, 0.2), "image", "0.30 of the image straight below a;"),
        ((0.5, 0.3, 0.4, 0.1), "symmetric", "b has its centre on a's;\nit is as large as a"),
    ],
)  # fmt: skip
def test_answer_describes_b_relative_to_a(b: tuple[float, ...], encoding: str, said: str) -> None:
    a = torch.tensor([0.5, 0.3, 0.2, 0.2])
    assert said in describe_pair(a, torch.tensor(b), encoding)


def test_figure_shows_boxes_crops_and_answer(image_paths: list[Path]) -> None:
    preview = sample_preview(image_paths[:6], config=SPConfig(source="image"), side=32, count=3)
    axes = draw_preview(preview).axes
    assert len(axes) == 9  # an image and two crops for each
    for i in range(3):
        image, crop_a, crop_b = axes[3 * i : 3 * i + 3]
        drawn = [patch.get_bbox().extents for patch in image.patches]
        assert preview.windows is not None
        expected = cxcywh_to_xyxy(torch.stack([preview.windows[i], *preview.boxes[:, i]]))
        assert np.allclose(drawn, expected)
        assert describe_pair(*preview.boxes[:, i], "symmetric") in image.texts[0].get_text()
        assert f"x {preview.targets[i, 0]:+.2f}" in image.texts[0].get_text()
        for crop, shown in zip(preview.crops[:, i], (crop_a, crop_b), strict=True):
            pixels = shown.images[0].get_array()
            assert np.abs(pixels / 255.0 - crop.permute(1, 2, 0).numpy()).max() < 0.51 / 255


def test_png_is_written_to_a_new_folder(image_paths: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "pairs.anything"
    save_preview(sample_preview(image_paths, config=SPConfig(), side=32, count=5), out)
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert 1000 < image.width < 1600 and 1000 < image.height < 1600


@pytest.mark.parametrize("source", ("view", "image"))
def test_recorded_step_is_drawn(tmp_path: Path, source: str) -> None:
    """Crops and boxes of the step itself; pixels that are not finite are white."""
    session = SPSession(
        torch.nn.Conv2d(3, 4, 3),
        on_nonfinite="record",
        record_folder=tmp_path,
        source=source,
        sample_fraction=1,
    )
    images = torch.rand(4, 3, 32, 32) * 4 - 2
    images[1] = torch.nan
    crops = Crops(torch.rand(2, 4, 4), torch.full((8, 3, 16, 16), torch.nan))
    session(images, crops if source == "image" else None)
    out = tmp_path / "new" / "step.png"
    show_recorded_step(next(tmp_path.glob("*.pt")), out)
    drawn = np.asarray(Image.open(out).convert("RGB"))
    colored = (drawn.std(axis=2) > 20).mean()  # images of noise, or boxes on gray alone
    assert colored > 0.15 if source == "view" else 0 < colored < 0.05
    (tmp_path / "text.pt").write_text("no step")
    with pytest.raises(UsageError, match=r"replay: file: .* is not of a step that SP recorded"):
        show_recorded_step(tmp_path / "text.pt", out)
