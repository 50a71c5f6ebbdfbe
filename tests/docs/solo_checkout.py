"""A checkout of solo-learn in a working folder, with settings and data made small."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from small_data import make_images

_SMALL = {
    "max_epochs": 1,
    "accelerator": "cpu",
    "devices": "1",  # text: solo-learn takes its length
    "strategy": "auto",
    "precision": 32,
    "sync_batchnorm": False,
    "limit_train_batches": 1,
    "limit_val_batches": 1,
    "data": {"dataset": "custom", "format": "image_folder", "num_workers": 0},
    "optimizer": {"batch_size": 4},
}

_FILES = ("pretrain/cifar/simclr", "pretrain/imagenet-100/byol", "linear/imagenet-100/simclr")


def put_solo(folder: Path) -> None:
    """Copy the checkout at ``$SOLO_LEARN``, with small settings in the files of the blocks."""
    if "SOLO_LEARN" not in os.environ:
        pytest.skip("needs solo-learn: SOLO_LEARN=/path/to/solo-learn")
    checkout = Path(os.environ["SOLO_LEARN"])
    for name in ("solo", "scripts", "main_pretrain.py", "main_linear.py"):
        place = checkout / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, folder / name)
    for split in ("train", "val"):
        make_images(folder / "images" / split, classes=5, count=4)
    images = {"train_path": f"{folder}/images/train", "val_path": f"{folder}/images/val"}
    for name in _FILES:
        path = folder / "scripts" / f"{name}.yaml"
        own = OmegaConf.load(path)
        small = {**_SMALL, "data": {**_SMALL["data"], **images}}
        own.update(OmegaConf.merge(own, small))
        OmegaConf.save(own, path)
