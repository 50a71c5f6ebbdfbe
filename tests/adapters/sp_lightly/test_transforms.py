"""lightly's own transforms, data sets and building blocks, with SP's crops next to their views."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly import transforms as T
from lightly.data import LightlyDataset
from PIL import Image
from sp_lightly import SPTransform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from sp_plugin import Crops
from sp_plugin.crops.transform import find_normalize

# Each transform of lightly that takes an image; the others want masks, tokens or several.
NAMES = (
    "AIMTransform", "BYOLTransform", "CAPITransform", "DINOTransform", "DenseCLTransform",
    "DetConSTransform",    "FDATransform", "FastSiamTransform", "IBOTTransform",
    "MAETransform", "MMCRTransform", "MSNTransform", "MoCoV1Transform", "MoCoV2Transform",
    "PIRLTransform", "SMoGTransform", "SimCLRTransform", "SimSiamTransform", "SwaVTransform",
    "TiCoTransform", "VICRegLTransform", "VICRegTransform", "WMSETransform",
)  # fmt: skip


def make_image(seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def seeded_samples(transform: Any) -> tuple[list[Any], float, float]:
    """Two samples from fixed seeds, and where they leave the generators."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    samples = [transform(make_image(seed)) for seed in range(2)]
    return samples, float(torch.rand(())), random.random()


def flatten_views(item: Any) -> list[Any]:
    if isinstance(item, (list, tuple)):
        return [leaf for part in item for leaf in flatten_views(part)]
    return [item]


@pytest.mark.parametrize("name", NAMES)
def test_views_unchanged_bit_for_bit(name: str) -> None:
    plain, *left = seeded_samples(getattr(T, name)())
    wrapped, *left_too = seeded_samples(SPTransform(getattr(T, name)(), crop_size=24))
    assert left == left_too
    for views, sample in zip(plain, wrapped, strict=True):
        ours = flatten_views(sample["views"])
        assert len(ours) == len(flatten_views(views)) > 0
        for a, b in zip(flatten_views(views), ours, strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
        assert sample["sp"]["crops"].shape == (4, 3, 24, 24)


def test_all_image_transforms_are_covered() -> None:
    taken = set()
    for name in dir(T):
        if not name.endswith("Transform") or "View" in name:  # one view of several
            continue
        try:
            getattr(T, name)()(make_image())
        except Exception:  # wants another input: not of this list
            continue
        taken.add(name)
    assert taken == set(NAMES)


def test_crops_are_normalized_like_views() -> None:
    found = find_normalize(T.SimCLRTransform())
    assert tuple(found.mean) == pytest.approx((0.485, 0.456, 0.406))
    assert find_normalize(T.SimCLRTransform(normalize=None)) is None


@pytest.mark.parametrize("kind", ("ImageFolder", "LightlyDataset"))
@pytest.mark.parametrize("workers", (0, 2))
def test_default_collate_carries_crops(kind: str, workers: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for seed in range(4):
        make_image(seed).save(tmp_path / "a" / f"{seed}.png")
    transform = SPTransform(T.SimCLRTransform(input_size=32))
    data = (
        ImageFolder(str(tmp_path), transform)
        if kind == "ImageFolder"
        else LightlyDataset(str(tmp_path), transform=transform)
    )
    batch = next(iter(DataLoader(data, batch_size=4, num_workers=workers)))
    crops = Crops.from_batch(batch[0]["sp"])
    assert crops.pixels.shape == (16, 3, 16, 16) and crops.boxes.shape == (4, 4, 4)
    assert len(batch[0]["views"]) == 2 and len(batch[1]) == 4
