"""source="host_views" with lightly: its transforms replay to the very pixels, its DINO trains."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from lightly import transforms as L
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from PIL import Image
from sp_lightning import SPCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as F

from sp_plugin import SpatialPrediction
from sp_plugin.views.transform import ViewBoxTransform

# Colours off: what is left of a view is what its box and flips say. By the filter of each.
GEOMETRY_ONLY = {
    "cj_prob": 0.0,
    "random_gray_scale": 0.0,
    "normalize": {"mean": (0.0,) * 3, "std": (1.0,) * 3},
}
BICUBIC, BILINEAR = F.InterpolationMode.BICUBIC, F.InterpolationMode.BILINEAR
TRANSFORMS: dict[str, Any] = {
    "dino": lambda: (
        L.DINOTransform(gaussian_blur=(0, 0, 0), solarization_prob=0, vf_prob=0.3, **GEOMETRY_ONLY),
        BICUBIC,
    ),
    "simclr": lambda: (
        L.SimCLRTransform(gaussian_blur=0.0, vf_prob=0.3, **GEOMETRY_ONLY),
        BILINEAR,
    ),
    "swav": lambda: (L.SwaVTransform(gaussian_blur=0.0, **GEOMETRY_ONLY), BILINEAR),
    "smog": lambda: (
        L.SMoGTransform(gaussian_blur_probs=(0, 0), solarize_probs=(0, 0), **GEOMETRY_ONLY),
        BILINEAR,
    ),
    "moco": lambda: (L.MoCoV2Transform(gaussian_blur=0.0, **GEOMETRY_ONLY), BILINEAR),
    "msn": lambda: (L.MSNTransform(gaussian_blur=0.0, **GEOMETRY_ONLY), BILINEAR),
    "vicregl": lambda: (
        L.VICRegLTransform(
            global_gaussian_blur_prob=0,
            local_gaussian_blur_prob=0,
            local_solarize_prob=0,
            **GEOMETRY_ONLY,
        ),
        BILINEAR,
    ),
}


def make_image(seed: int = 0, width: int = 160, height: int = 120) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    )


def seed_all() -> None:
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002


def flatten_views(item: Any) -> list[Tensor]:
    if isinstance(item, (list, tuple)):
        return [leaf for part in item for leaf in flatten_views(part)]
    return [item]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_boxes_and_flips_reproduce_pixels(name: str) -> None:
    transform, how = TRANSFORMS[name]()
    host, flips_seen = ViewBoxTransform(transform), set()
    seed_all()
    for seed in range(3):
        image = make_image(seed)
        sample = host(image)
        boxes, flips = sample["sp"]["boxes"], sample["sp"]["flips"]
        views = [leaf for leaf in flatten_views(sample["views"]) if leaf.shape[0] == 3]
        assert len(views) == len(boxes) >= 2
        for view, box, flip in zip(views, boxes, flips, strict=True):
            if view.shape[-1] < 8:  # VICRegL's grids next to its views
                assert box.isnan().all()
                continue
            w, h = round(float(box[2]) * 160), round(float(box[3]) * 120)
            left, top = round(float(box[0]) * 160 - w / 2), round(float(box[1]) * 120 - h / 2)
            again = F.resized_crop(image, top, left, h, w, list(view.shape[1:]), how)
            again = F.hflip(again) if flip[0] < 0 else again
            again = F.vflip(again) if flip[1] < 0 else again
            assert torch.equal(F.pil_to_tensor(again), (view * 255).round().byte())
            flips_seen.add(tuple(flip.tolist()))
    assert len(flips_seen) >= 2


def test_only_rotated_views_are_unknown() -> None:
    seed_all()
    boxes = torch.stack([
        ViewBoxTransform(L.SimCLRTransform(32, rr_prob=0.5, rr_degrees=degrees))(
            make_image(n)
        )["sp"]["boxes"]
        for n in range(8) for degrees in (None, 30)
    ])  # fmt: skip
    assert 4 < boxes.isnan().any(dim=2).sum() < 28


class RandomImages(Dataset[Any]):
    def __init__(self) -> None:
        self.transform = L.DINOTransform(global_crop_size=32, local_crop_size=16)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        return self.transform(make_image(index, 64, 48)), index


class DINO(pl.LightningModule):
    """As lightly's example, on a small student."""

    def __init__(self) -> None:
        super().__init__()
        self.student_backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.student_head = DINOProjectionHead(16, 32, 16, 64, freeze_last_layer=1)
        self.teacher_backbone = copy.deepcopy(self.student_backbone)
        self.teacher_head = DINOProjectionHead(16, 32, 16, 64)
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(output_dim=64, warmup_teacher_temp_epochs=5)
        self.rows = 0

    def on_train_start(self) -> None:  # SP looks at the backbone before
        self.student_backbone.register_forward_hook(self._count)

    def _count(self, net: nn.Module, given: Any, _: Any) -> None:
        self.rows += len(given[0]) if net.training else 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        update_momentum(self.student_backbone, self.teacher_backbone, m=0.996)
        update_momentum(self.student_head, self.teacher_head, m=0.996)
        targets = [self.teacher_head(self.teacher_backbone(v).flatten(1)) for v in batch[0][:2]]
        outputs = [self.student_head(self.student_backbone(v).flatten(1)) for v in batch[0]]
        return self.criterion(targets, outputs, epoch=self.current_epoch)

    def on_after_backward(self) -> None:
        self.student_head.cancel_last_layer_gradients(current_epoch=self.current_epoch)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.001)


@pytest.mark.parametrize("workers", (0, 2))
def test_dino_multi_crop_meets_contract(workers: int) -> None:
    """Weight 0 is the baseline bit for bit; weight 1 trains; no image is encoded once more."""

    def run(*callbacks: Any) -> tuple[dict[str, Tensor], int]:
        pl.seed_everything(0)
        random.seed(0)
        module = DINO()
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
        )  # fmt: skip
        trainer.fit(module, DataLoader(RandomImages(), 4, shuffle=True, num_workers=workers))
        return module.state_dict(), module.rows

    (baseline, rows), (zero, rows_zero) = run(), run(SPCallback(source="host_views", weight=0))
    assert all(torch.equal(value, zero[key]) for key, value in baseline.items())
    callback = SPCallback(source="host_views", weight=1, warmup_fraction=0)
    on, rows_on = run(callback)
    assert rows == rows_zero == rows_on == 8 * 8
    assert callback.backbone_name == "student_backbone"
    moved = {key for key, value in baseline.items() if not torch.equal(value, on[key])}
    assert "student_backbone.0.weight" in moved
    fresh = SpatialPrediction(16, callback.sp.user_config).head.state_dict()
    assert not any(
        torch.equal(fresh[key], value) for key, value in callback.sp.head.state_dict().items()
    )
