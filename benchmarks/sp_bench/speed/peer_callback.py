"""Peers as callbacks: their loss added to the host's own step, on what the host has encoded."""

from __future__ import annotations

import functools
from typing import Any

import pytorch_lightning as pl
import torch
from sp_lightning.method_patching import PatchedMethods
from torch import Tensor, nn

from sp_bench.backbones import is_vit
from sp_bench.methods import Method
from sp_bench.speed.peers import Augmented, AugSelf, Drloc
from sp_plugin.features.extraction import pool_features
from sp_plugin.features.input_size import find_input_size

PEERS = ("augself", "drloc")


class Beside(pl.Callback):
    """Lets a peer ask about the features that the student gives in the host's step.

    While ``fit`` runs the host has a submodule ``peer``, which its optimizer trains, and a hook on
    the student; afterwards it is as it was.

    Args:
        name: of ``PEERS``.
        method: the host.
    """

    def __init__(self, name: str, method: Method) -> None:
        self._backbone = method.backbone
        self._layer = _last_map(method.backbone)
        width = _width(method)
        self._peer = AugSelf(width) if name == "augself" else Drloc(width)
        self._generator = torch.Generator().manual_seed(0)
        self._seen: list[Tensor] = []
        self._undo: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl_module.peer = self._peer
        wrapped = PatchedMethods(pl_module)
        wrapped("training_step", self._step)
        self._undo = [wrapped, self._layer.register_forward_hook(self._keep)]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for handle in self._undo:
            handle.remove()
        del pl_module.peer

    def _keep(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self._seen.append(output)

    def _step(self, original: Any, *batch: Any) -> Tensor:
        self._seen = []
        loss: Tensor = original(*batch)
        return loss + self._loss()

    def _loss(self) -> Tensor:
        maps, self._seen = self._seen, []
        if isinstance(self._peer, Drloc):
            prefix = getattr(self._backbone, "num_prefix_tokens", 0)
            loss: Tensor = self._peer([_as_map(each, prefix) for each in maps], self._generator)
            return loss
        features = [pool_features(each) for each in maps]
        draw = functools.partial(
            Augmented.drawn, len(features[0]), self._generator, features[0].device
        )
        loss = self._peer(features, (draw(), draw()))
        return loss


def _last_map(backbone: Any) -> nn.Module:
    """The layer whose output is the backbone's last map or its tokens."""
    layer: nn.Module = backbone.norm if is_vit(backbone) else backbone.layer4
    return layer


def _as_map(output: Tensor, prefix: int) -> Tensor:
    """Tokens (B, N, D) as the map (B, D, h, w) that they are; a map as it is."""
    if output.ndim == 4:
        return output
    patches = output[:, prefix:].transpose(1, 2)
    side = round(patches.shape[2] ** 0.5)
    return patches.unflatten(2, (side, side))


def _width(method: Method) -> int:
    return find_input_size(method.backbone, method.side).feature_dim
