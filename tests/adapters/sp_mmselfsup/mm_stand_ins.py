"""Stand-ins for what tests do not have (downloads, GPUs, faiss), and the fix of one config."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner

ON_CPU = {
    "type": "MMDistributedDataParallel",
    "device_ids": None,
    "broadcast_buffers": False,
    "find_unused_parameters": False,
}


def stand_in(settings: Any) -> None:
    """Replace one dict of a config where the tests do not have what it needs."""
    if settings.get("type") == "DeepClusterHook":  # clusters by faiss, on a GPU
        memory = settings.get("init_memory", False)
        settings.clear()
        settings.update(type="mmengine.FixedLabels", init_memory=memory)
    if settings.get("type") == "MILANPretrainDecoder":
        # mmpretrain's config uses the decoder's default width, ViT-L's (models/necks/milan_neck.py,
        # line 123: 1024), with a ViT-B, and does not train.
        settings.setdefault("embed_dim", 768)
    if target := settings.get("target_generator"):
        target.pop("init_cfg", None)  # weights of a tokenizer; random ones are enough
        if target.type == "CLIPGenerator":
            settings["target_generator"] = {"type": "mmengine.RandomCLIP"}


def as_one_rank(config: Any, model: Any, clusters: int) -> None:
    """Provide what ODC needs (models/memories/odc_memory.py): a process group, and a GPU.

    Without a GPU, ``Tensor.cuda`` returns the tensor itself; the algorithm's steps are the same.
    """
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
        )
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    os.environ["LOCAL_RANK"] = "0"
    for part, norm in ((model.backbone, "BN"), (model.neck, "BN1d")):
        part.norm_cfg = {"type": norm}  # SyncBN does not run on a CPU
    # One cluster for each image, since none may be empty; and none is too small.
    model.head.num_classes = model.memory_bank.num_classes = clusters
    model.memory_bank.min_cluster = 1
    config.launcher = "pytorch"
    config.model_wrapper_cfg = ON_CPU


@MODELS.register_module(force=True)  # pytest imports this file for doctests too
class RandomCLIP(torch.nn.Module):
    """Features and attention of the shapes of CLIP ViT-B/16's, computed from the image's mean."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = (images.shape[-1] // 16) ** 2 + 1
        level = images.mean(dim=(1, 2, 3)).reshape(-1, 1, 1)
        features = torch.sin(level + torch.arange(tokens * 512.0).reshape(tokens, 512))
        attention = torch.cos(level + torch.arange(tokens * tokens * 1.0).reshape(tokens, tokens))
        return features, attention.abs() + 0.1


@HOOKS.register_module(force=True)  # pytest imports this file for doctests too
class FixedLabels(Hook):
    """Stand-in for DeepClusterHook: the cluster of an image is its index."""

    def __init__(self, init_memory: bool) -> None:
        self.init_memory = init_memory

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        labels = np.arange(len(dataset))
        dataset.assign_labels(labels.tolist())
        if self.init_memory:
            memory = runner.model.module.memory_bank
            features = np.random.default_rng(0).normal(size=(len(dataset), memory.feat_dim))
            memory.init_memory(features.astype(np.float32), labels)


def shallow(config: Any) -> None:
    """ResNet-18 instead of ResNet-50, which is slow, and BN instead of SyncBN, for the CPU."""
    model = config.model.get("algorithm", config.model)
    if model.backbone.type == "ResNet":
        model.backbone.update(depth=18, norm_cfg={"type": "BN"})
        model.neck.in_channels = 512
        if model.neck.type in ("NonLinearNeck", "SwAVNeck"):
            model.neck.norm_cfg = {"type": "BN1d"}
