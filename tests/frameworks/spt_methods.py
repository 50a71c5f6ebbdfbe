"""Every method of stable-pretraining with a small backbone, as its own benchmarks train it."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import stable_pretraining
import torch
from framework_contract import Host
from stable_pretraining import methods
from stable_pretraining.callbacks import TeacherStudentCallback
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

# Of the callbacks that the framework adds to every Trainer: one lists all packages, and writes them
# to the user's cache.
stable_pretraining.set(default_callbacks={"env_dump": False, "progress_bar": False})

SIDE, LOCAL, COUNT, BATCH = 64, 32, 8, 4


def cnn() -> nn.Module:
    """BatchNorm, and dropout that draws at random."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=4), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(16, 24, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def vit(dynamic: bool = False) -> nn.Module:
    return VisionTransformer(
        img_size=SIDE, patch_size=16, embed_dim=32, depth=2, num_heads=2, num_classes=0,
        dynamic_img_size=dynamic,
    )  # fmt: skip


_PROJECTOR = {"projector_dims": (16, 8)}
_PREDICTOR = {"predictor_hidden_dim": 16}
_QUEUE = {"queue_length": 8}
_PROTOTYPES = {"projector_hidden_dim": 16, "projector_bottleneck_dim": 8}
_MASKED = {"projector_hidden_dim": 16, "projector_bottleneck_dim": 8, "n_prototypes": 12}
_TOKENS = {**_PROTOTYPES, "n_cls_prototypes": 12, "n_patch_prototypes": 12, "image_size": SIDE}
_TARGETS = {"predictor_embed_dim": 64, "predictor_depth": 1}
_VIT = {"image_size": SIDE}

TWO_VIEWS: dict[str, Callable[[], Any]] = {
    "BarlowTwins": lambda: methods.BarlowTwins(cnn(), (16, 16)),
    "BYOL": lambda: methods.BYOL(cnn(), (16, 8), (16, 8)),
    "CMAE": lambda: methods.CMAE(vit(), projector_dim=8, **_VIT),
    "MoCov2": lambda: methods.MoCov2(cnn(), **_PROJECTOR, **_QUEUE),
    "MoCov3": lambda: methods.MoCov3(vit(True), (16, 16, 8), **_PREDICTOR),
    "MSN": lambda: methods.MSN(vit(), **_MASKED, **_VIT),
    "NNCLR": lambda: methods.NNCLR(cnn(), **_PROJECTOR, **_PREDICTOR, **_QUEUE),
    "PIRL": lambda: methods.PIRL(cnn(), 8, **_QUEUE),
    "PMSN": lambda: methods.PMSN(encoder_name=vit(), **_MASKED, **_VIT),
    "SimCLR": lambda: methods.SimCLR(cnn(), (16, 8)),
    "SimSiam": lambda: methods.SimSiam(cnn(), 16, **_PREDICTOR),
    "SwAV": lambda: methods.SwAV(cnn(), **_PROJECTOR, n_prototypes=12),
    "TiCO": lambda: methods.TiCO(cnn(), **_PROJECTOR),
    "VICReg": lambda: methods.VICReg(cnn(), (16, 16)),
    "VICRegL": lambda: methods.VICRegL(vit(), 16, **_VIT),
    "WMSE": lambda: methods.WMSE(cnn(), (16, 2)),
}
MULTI_CROP: dict[str, Callable[[], Any]] = {
    "DINO": lambda: methods.DINO(vit(True), 16, 8, 12),
    "DINOv2": lambda: methods.DINOv2(vit(True), **_TOKENS),
    "DINOv3": lambda: methods.DINOv3(vit(True), **_TOKENS),
    "iBOT": lambda: methods.iBOT(vit(), **_TOKENS),
    "LeJEPA": lambda: methods.LeJEPA("test_vit", n_slices=8),
    "MIMRefiner": lambda: methods.MIMRefiner(vit(), freeze_lower_blocks=1, **_TOKENS),
}
ONE_VIEW: dict[str, Callable[[], Any]] = {
    "BEiT": lambda: methods.BEiT(vit(), vocab_size=16, **_VIT),
    "CrossMAE": lambda: methods.CrossMAE(vit(), 16, 1, 2, **_VIT),
    "Data2Vec": lambda: methods.Data2Vec(vit(), 1, **_VIT),
    "iGPT": lambda: methods.iGPT(vit(), image_size=SIDE),
    "IJEPA": lambda: methods.IJEPA(vit(), **_TARGETS),
    "MAE": lambda: methods.MAE(vit(), 16, 1, 2),
    "MaskFeat": lambda: methods.MaskFeat(vit(), **_VIT),
    "NEPA": lambda: methods.NEPA(SIDE, 16, embed_dim=32, depth=2, num_heads=2),
    "SALT": lambda: methods.SALT("test_vit", **_TARGETS, predictor_num_heads=2),
    "SimMIM": lambda: methods.SimMIM(vit(), **_VIT),
}
METHODS = {**TWO_VIEWS, **MULTI_CROP, **ONE_VIEW}
SIDES = {"LeJEPA": 160, "SALT": 160}  # of the one small ViT that timm names


class Images(Dataset[Any]):
    """Dict samples, made from their index, by a transform on the whole sample."""

    def __init__(self, transform: Callable[[dict[str, Any]], Any] | None = None) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(index)
        sample = {"image": torch.rand(3, 80, 96, generator=generator), "label": index % 2}
        return self.transform(sample) if self.transform else sample


def host(name: str, **settings: Any) -> Host:
    """A run of a method, on views in the containers of its own transforms."""
    side = SIDES.get(name, SIDE)

    def module() -> Any:
        built = METHODS[name]()
        built.forward = types.MethodType(_forward(name), built)
        built.optim = {"optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.05}}
        return built

    def loader() -> Any:
        data = Images(_views(name, side))
        return DataLoader(data, BATCH, generator=torch.Generator().manual_seed(0))

    def callbacks(module: Any) -> list[Any]:
        has_teacher = any(hasattr(part, "update_teacher") for part in module.modules())
        return [TeacherStudentCallback(update_after_backward=True)] if has_teacher else []

    return Host(module, loader, callbacks, settings)


def _views(name: str, side: int) -> Any:
    from stable_pretraining.data import transforms as T

    def view(size: int, area: tuple[float, float]) -> Any:
        return T.Compose(
            T.RandomResizedCrop((size, size), scale=area),
            T.RandomHorizontalFlip(0.5),
            T.ToImage(mean=[0.5] * 3, std=[0.25] * 3),
        )

    full = view(side, (0.4, 1.0))
    if name in ONE_VIEW:
        return full
    if name in TWO_VIEWS:
        return T.MultiViewTransform([full, view(side, (0.2, 1.0))])
    count = 0 if name in ("iBOT", "MIMRefiner") else 2
    local = {f"local_{n}": view(LOCAL, (0.05, 0.4)) for n in range(count)}
    return T.MultiViewTransform({"global_0": full, "global_1": full, **local})


def _forward(name: str) -> Callable[[Any, dict[str, Any], str], dict[str, Tensor]]:
    """Forward function as in the benchmarks of stable-pretraining."""
    method = getattr(methods, name)

    def forward(self: Any, batch: dict[str, Any], stage: str) -> dict[str, Any]:
        if "image" in batch:
            only = {"images": batch["image"]} if name in MULTI_CROP else {}
            out = method.forward(self, *(() if only else (batch["image"],)), **only)
            labels = batch["label"]
        elif name in MULTI_CROP:
            views = {"global_views": [batch[k]["image"] for k in batch if k.startswith("global")]}
            if local := [batch[k]["image"] for k in batch if k.startswith("local")]:
                views["local_views"] = local
            out, labels = method.forward(self, **views), batch["global_0"]["label"]
        else:
            first, second = batch["views"]
            out, labels = method.forward(self, first["image"], second["image"]), first["label"]
        embedding = getattr(out, "embedding", None)
        result = {"loss": out.loss}
        if embedding is not None:
            embedding = (embedding.mean(1) if embedding.ndim == 3 else embedding).detach()
            result["embedding"] = embedding
            result["label"] = labels.repeat(len(embedding) // len(labels))
        return result

    return forward
