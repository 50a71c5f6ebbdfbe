"""source=host_views through solo-learn's own scripts: SP on the method's own views."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from sp_solo import config as sp_config
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from sp_plugin import ConfigError, SPConfig
from sp_plugin.views.transform import ViewBoxTransform

pytestmark = pytest.mark.timeout(1200)  # several runs of a script each

HOST_VIEWS = ("++sp.source=host_views", "++sp.warmup_fraction=0")


@pytest.mark.parametrize(("method", "kind"), (("swav", "multi_crop"), ("dino", "resnet18")))
def test_weight_0_is_baseline_1_trains(solo: Any, method: str, kind: str, tmp_path: Path) -> None:
    workers = "++data.num_workers=2"
    baseline = solo.pretrain(tmp_path / "baseline", method, kind, workers)
    zero = solo.pretrain(tmp_path / "zero", method, kind, workers, *HOST_VIEWS, "++sp.weight=0")
    assert zero.same(baseline)
    on = solo.pretrain(tmp_path / "on", method, kind, workers, *HOST_VIEWS, "++sp.weight=1")
    assert not on.same(baseline) and on.state.keys() == baseline.state.keys()
    assert not [key for key in on.unmoved_parameters() if "norm" not in key]
    assert re.search(
        r"weight 1 of the host.s gradient, \d views of \d+ px from the host", on.output
    )
    assert on.arguments["sp"]["source"] == "host_views"


@pytest.mark.parametrize("ranks", (1, 2))
def test_run_resumes_and_ddp_stays_in_sync(solo: Any, ranks: int, tmp_path: Path) -> None:
    options = (f"++devices='{ranks}'", "++strategy=ddp") if ranks > 1 else ("++max_epochs=2",)
    run = solo.pretrain(
        tmp_path / "a", "simclr", "resnet18", *HOST_VIEWS, *options, epoch=ranks % 2
    )
    assert run.sp["step"] == (4 if ranks == 1 else 1)  # of 40 images and 2 x 16 a step
    if ranks == 1:
        resume = f"++resume_from_checkpoint='{run.checkpoint}'"
        more = solo.pretrain(
            tmp_path / "b", "simclr", "resnet18", *HOST_VIEWS, "++max_epochs=3", resume, epoch=2
        )
        assert more.sp["step"] == 6
        assert torch.equal(more.sp["sp"]["targets.std"], run.sp["sp"]["targets.std"])


def augmentations(*sizes: tuple[int, int], crops: bool = True) -> Any:
    each = [
        {"crop_size": size, "num_crops": count, "rrc": {"enabled": crops}} for size, count in sizes
    ]
    return OmegaConf.create({"method": "simclr", "augmentations": each, "data": {"format": "h5"}})


def test_unsupported_setups_are_refused() -> None:
    def refused(cfg: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            sp_config.resolve(SPConfig(source="host_views"), cfg, torch.nn.Conv2d(3, 4, 3))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    mae = augmentations((32, 2))
    mae.method = "mae"
    assert refused(mae).startswith("sp.source: got 'host_views', but mae's backbone gets masked")
    assert "no two views of one size" in refused(augmentations((32, 1), (16, 1)))
    assert "crop nothing" in refused(augmentations((32, 2), crops=False))
    kept = sp_config.resolve(
        SPConfig(source="host_views"), augmentations((32, 1), (16, 2)), torch.nn.Conv2d(3, 4, 3)
    )
    assert kept.source == "host_views"


def test_dali_warns_and_uses_view_source() -> None:
    cfg = augmentations((32, 2))
    cfg.data.format = "dali"
    with pytest.warns(UserWarning, match="DALI gives no images"):
        assert sp_config.resolve(
            SPConfig(source="host_views"), cfg, torch.nn.Conv2d(3, 4, 3)
        ).source == ("view")


def test_boxes_reproduce_solo_learn_pixels(solo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(solo.root)
    from solo.data import pretrain_dataloader as its

    off = {"prob": 0.0}
    config = OmegaConf.create({
        "rrc": {"enabled": True, "crop_min_scale": 0.1, "crop_max_scale": 0.5},
        "color_jitter": off, "grayscale": off, "gaussian_blur": {"prob": 0.5}, "solarization": off,
        "equalization": off, "horizontal_flip": {"prob": 0.5}, "crop_size": 32,
    })  # fmt: skip
    quiet = OmegaConf.merge(config, {"gaussian_blur": off, "crop_size": 18})
    pipelines = [its.build_transform_pipeline("custom", cfg) for cfg in (config, quiet)]
    host = ViewBoxTransform(its.prepare_n_crop_transform(pipelines, [2, 4]))
    torch.manual_seed(0), random.seed(0)
    flipped = 0
    for path in sorted((solo.data / "train").glob("*/*.png"))[:8]:
        image = Image.open(path).convert("RGB")
        sample = host(image)
        assert sample["sp"]["boxes"].isfinite().all()
        for view, box, flips in list(zip(sample["views"], *sample["sp"].values(), strict=True))[2:]:
            width, height = image.size
            w, h = round(float(box[2]) * width), round(float(box[3]) * height)
            left, top = (round(float(box[n]) * (width, height)[n] - (w, h)[n] / 2) for n in (0, 1))
            again = F.resized_crop(image, top, left, h, w, [18, 18], InterpolationMode.BICUBIC)
            again = F.to_tensor(F.hflip(again) if flips[0] < 0 else again)
            normal = F.normalize(again, its.IMAGENET_DEFAULT_MEAN, its.IMAGENET_DEFAULT_STD)
            assert torch.equal(view, normal)
            flipped += int(flips[0] < 0)
    assert 4 < flipped < 28
