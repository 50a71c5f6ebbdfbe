"""Images of 13 bands through a whole training: SP trains, and weight 0 equals the baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mm_configs import same, without_sp
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from torch import Tensor

BANDS = 13


@TRANSFORMS.register_module(force=True)
class LoadBandsFromFile:
    """An image of 13 bands (H, W, 13) that follow from the file's name."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        rng = np.random.default_rng(list(results["img_path"].encode()))
        return {**results, "img": rng.integers(0, 256, (48, 48, BANDS), dtype=np.uint8)}


def take_bands(config: Config) -> None:
    """Read bands, crop and flip them alone, and give the backbone as many channels."""
    view = [{"type": "RandomResizedCrop", "size": 32}, {"type": "RandomFlip", "prob": 0.5}]
    config.train_dataloader.dataset.pipeline = [
        {"type": "mmengine.LoadBandsFromFile"},
        {"type": "MultiView", "num_views": 2, "transforms": [view]},
        {"type": "PackSelfSupInputs", "meta_keys": ["img_path"]},
    ]
    config.model.data_preprocessor = {"mean": [100.0], "std": [50.0]}
    config.model.backbone.in_channels = BANDS


def test_bands_train_as_rgb_does(train: Any) -> None:

    def run(sp: dict[str, Any] | None = None) -> dict[str, Tensor]:
        state: dict[str, Tensor] = train("simclr", sp, take_bands).model.state_dict()
        return state

    baseline, off, on = run(), run({"weight": 0.0}), run({"weight": 1.0, "warmup_fraction": 0.0})
    assert baseline["backbone.conv1.weight"].shape[1] == BANDS
    assert same(without_sp(off), baseline) and not same(without_sp(on), baseline)
    assert all(torch.isfinite(value).all() for value in on.values())
