"""Peers of SP, for their cost: small reference implementations from their papers.

Both use features that the method computes anyway, so they add no pass through the backbone, and
neither compares two local views of one image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from sp_lightning.method_patching import PatchedMethods
from torch import Tensor, nn
from torch.nn import functional as F

from sp_bench.backbones import is_vit
from sp_bench.methods import Method
from sp_bench.pretext_tasks.augself import AugSelfHead, augself_loss, mlp
from sp_plugin.features.extraction import pool_features
from sp_plugin.features.input_size import find_input_size


class Augmented(NamedTuple):
    """Parameters of a view's augmentations.

    Attributes:
        crop: (B, 4), centre y and x, height and width, as fractions of the image.
        colour: (B, 4), strengths of brightness, contrast, saturation and hue, in [0, 1].
        flip: (B,), 1 for a flipped view, else 0.
    """

    crop: Tensor
    colour: Tensor
    flip: Tensor

    @classmethod
    def random(cls, count: int, generator: torch.Generator, device: torch.device) -> Augmented:
        """Random parameters: in training the data set provides them, at no cost."""
        values = torch.rand(count, 9, generator=generator).to(device, non_blocking=True)
        return cls(values[:, :4], values[:, 4:8], (values[:, 8] < 0.5).float())


def augmentation_differences(first: Augmented, second: Augmented) -> dict[str, Tensor]:
    """Targets of `sp_bench.pretext_tasks.augself.augself_loss` for two views.

    >>> one = Augmented(torch.zeros(1, 4), torch.ones(1, 4), torch.ones(1))
    >>> two = Augmented(torch.ones(1, 4) / 2, torch.ones(1, 4), torch.zeros(1))
    >>> target = augmentation_differences(one, two)
    >>> target["crop"][0].tolist(), target["colour"].sum().item(), target["flip"].tolist()
    ([-0.5, -0.5, -0.5, -0.5], 0.0, [1.0])
    """
    return {
        "crop": first.crop - second.crop,
        "colour": first.colour - second.colour,
        "flip": (first.flip != second.flip).float(),
    }


class Drloc(nn.Module):
    """Dense relative localization on the last feature map.

    Liu et al., Efficient Training of Visual Transformers with Small Datasets, NeurIPS 2021 (arXiv
    2106.03746), section 4: an MLP with two hidden layers predicts the distance between pairs of
    positions in the last feature map, as fractions of its sides, with absolute error. Simplified:
    one map, without the paper's variants for some backbones.

    Args:
        dim: width D of the features.
        pairs: number of pairs per view, default 64; the authors' code has 32 by default.
    """

    def __init__(self, dim: int, pairs: int = 64) -> None:
        super().__init__()
        self.pairs = pairs
        self.distance = mlp(2 * dim, 2)

    def forward(self, maps: list[Tensor], generator: torch.Generator) -> Tensor:
        """The loss, from the maps (B, D, h, w) of all views."""
        features = torch.cat(maps)
        batch, _, height, width = features.shape
        draws = torch.rand(2, batch, self.pairs, 2, generator=generator)
        positions = (draws * torch.tensor([height, width])).long()
        positions = positions.to(features.device, non_blocking=True)
        images = torch.arange(batch, device=features.device)[:, None]
        pair = [features[images, :, position[..., 0], position[..., 1]] for position in positions]
        predicted = self.distance(torch.cat(pair, dim=-1)).float()
        first, second = positions
        return F.l1_loss(predicted, distances(first, second, height, width))


def distances(first: Tensor, second: Tensor, height: int, width: int) -> Tensor:
    """Targets of Drloc: distances of positions (..., 2), as fractions of the map's sides.

    Args:
        first: (..., 2), row and column of the first position.
        second: (..., 2), row and column of the second position.
        height: height of the map.
        width: width of the map.

    >>> distances(torch.tensor([0, 6]), torch.tensor([2, 3]), 4, 6).tolist()
    [0.5, 0.5]
    """
    offset = (first - second).abs()
    return offset / offset.new_tensor([height, width])


class PeerCallback(pl.Callback):
    """Adds a peer's loss on the features of the student in the method's own step.

    While ``fit`` runs the method has a submodule ``peer``, which its optimizer trains, and a hook
    on the student; afterwards it is as before.

    Args:
        name: ``augself`` or ``drloc``.
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
