"""Peers as callbacks: their loss is added to the method's own step, on the student's features."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from sp_lightning.method_patching import PatchedMethods
from torch import Tensor, nn

from sp_bench.backbones import is_vit
from sp_bench.methods import Method
from sp_bench.pretext_tasks.augself import AugSelfHead, augself_loss
from sp_bench.speed.peers import Augmented, Drloc, augmentation_differences
from sp_plugin.features.extraction import pool_features
from sp_plugin.features.input_size import find_input_size

PEERS = ("augself", "drloc")


class PeerCallback(pl.Callback):
    """Adds a peer's loss on the features of the student in the method's own step.

    While ``fit`` runs the method has a submodule ``peer``, which its optimizer trains, and a hook
    on the student; afterwards it is as before.

    Args:
        name: one of ``PEERS``.
        method: method that the peer is added to.
    """

    def __init__(self, name: str, method: Method) -> None:
        self._backbone = method.backbone
        self._layer = _last_layer(method.backbone)
        dim = find_input_size(method.backbone, method.side).feature_dim
        self._peer = AugSelfHead(dim, colour=True) if name == "augself" else Drloc(dim)
        self._generator = torch.Generator().manual_seed(0)
        self._outputs: list[Tensor] = []  # of the student in this step
        self._undo: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl_module.peer = self._peer
        methods = PatchedMethods(pl_module)
        methods.patch("training_step", self._training_step)
        self._undo = [methods, self._layer.register_forward_hook(self._collect)]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for handle in self._undo:
            handle.remove()
        del pl_module.peer

    def _collect(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self._outputs.append(output)

    def _training_step(self, original: Any, *batch: Any) -> Tensor:
        self._outputs = []
        loss: Tensor = original(*batch)
        return loss + self._loss()

    def _loss(self) -> Tensor:
        outputs, self._outputs = self._outputs, []
        if isinstance(self._peer, Drloc):
            prefix_tokens = getattr(self._backbone, "num_prefix_tokens", 0)
            maps = [_as_map(output, prefix_tokens) for output in outputs]
            loss: Tensor = self._peer(maps, self._generator)
            return loss
        features = torch.stack([pool_features(output) for output in outputs[:2]])
        first, second = (
            Augmented.random(features.shape[1], self._generator, features.device) for _ in range(2)
        )
        target = augmentation_differences(first, second)
        return augself_loss(self._peer(features), target).mean()


def _last_layer(backbone: Any) -> nn.Module:
    """The layer whose output is the backbone's last map or its tokens."""
    layer: nn.Module = backbone.norm if is_vit(backbone) else backbone.layer4
    return layer


def _as_map(output: Tensor, prefix_tokens: int) -> Tensor:
    """Patch tokens of (B, N, D) as a map (B, D, h, w); a map is returned as it is."""
    if output.ndim == 4:
        return output
    patches = output[:, prefix_tokens:].transpose(1, 2)
    side = round(patches.shape[2] ** 0.5)
    return patches.unflatten(2, (side, side))
