"""Method: optimizer, schedule and memory format of every method. Nothing here refers to SP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from lightly.utils.scheduler import CosineWarmupScheduler
from torch import Tensor, nn

# Sigma of the blur as a fraction of the image: lightly's 0.1 to 2 px are for 224 px.
_BLUR = (0.1 / 224, 2 / 224)
# MoCo v2's. lightly's 0.08 is for 224 px too: of a small image it leaves a patch.
MIN_SCALE = 0.2


def blur_sigmas(side: int) -> tuple[float, float]:
    """Range of the blur's standard deviation in pixels, for views of ``side`` pixels."""
    return _BLUR[0] * side, _BLUR[1] * side


class Method(pl.LightningModule):
    """A self-supervised method around a backbone.

    Args:
        backbone: student, from (B, C, S, S) to (B, D).
        feature_dim: width D of the features.
        side: side of the full views in pixels.
        learning_rate: learning rate for a batch of 256; scaled linearly with the batch.
        weight_decay: weight decay of AdamW.
        batch_size: images per step.
        channels: number of channels C of the views.
    """

    pool = "cls"  # pooling in the evaluation of a backbone with a class token

    def __init__(
        self,
        backbone: nn.Module,
        feature_dim: int,
        side: int,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 256,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.side = side
        self.channels = channels
        self.learning_rate = learning_rate * batch_size / 256
        self.weight_decay = weight_decay
        self.backbone = backbone
        self.build(feature_dim)

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        """lightly's transform of the method, for RGB views of ``side`` pixels."""
        raise NotImplementedError

    def build(self, feature_dim: int) -> None:
        """Build the heads and the loss."""
        raise NotImplementedError

    def method_loss(self, views: list[Tensor]) -> Tensor:
        """Loss of the method for a batch of views, (B, C, S, S) each."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        views, indices = batch
        # Convolutions on a CPU in bfloat16 are 3 times as fast in this format.
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        loss = self.method_loss(views)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(indices))
        return loss

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, self.learning_rate, weight_decay=self.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = CosineWarmupScheduler(optimizer, warmup_epochs=steps // 20, max_epochs=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    @property
    def training_progress(self) -> float:
        """Progress of training in [0, 1]."""
        return min(1.0, self.global_step / self.trainer.estimated_stepping_batches)
