"""What every host has in common: optimizer, schedule, memory format. None of it knows of SP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from lightly.utils.scheduler import CosineWarmupScheduler
from torch import Tensor, nn

# The blur's sigma as a share of the image: lightly's 0.1 to 2 px are meant for 224 px.
_BLUR = (0.1 / 224, 2 / 224)
# lightly's 0.08 is meant for 224 px too: of a small image it leaves a patch. MoCo v2's share.
LEAST_AREA = 0.2


def blur_sigmas(side: int) -> tuple[float, float]:
    """Standard deviations of the views' blur in pixels, for views of ``side`` pixels."""
    return _BLUR[0] * side, _BLUR[1] * side


class Method(pl.LightningModule):
    """A self-supervised method around a backbone.

    Args:
        backbone: the student; (B, 3, S, S) to (B, D).
        dim: D.
        side: of the full views, in pixels.
        learning_rate: for a batch of 256; scaled linearly with the batch.
        weight_decay: of AdamW.
        batch_size: images in a step.
    """

    pool = "cls"  # what evaluation takes of a backbone with a class token

    def __init__(
        self,
        backbone: nn.Module,
        dim: int,
        side: int,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        self.side = side
        self.learning_rate = learning_rate * batch_size / 256
        self.weight_decay = weight_decay
        self.backbone = backbone
        self.build(dim)

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        """lightly's transform of this method, for views of ``side`` pixels."""
        raise NotImplementedError

    def build(self, dim: int) -> None:
        """Make the heads and the loss, for features of width ``dim``."""
        raise NotImplementedError

    def host_loss(self, views: list[Tensor]) -> Tensor:
        """The method's own loss for a batch of views."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.host_loss([as_stored(view) for view in batch[0]])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[1]))
        return loss

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.learning_rate, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = CosineWarmupScheduler(optimizer, warmup_epochs=steps // 20, max_epochs=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    @property
    def training_progress(self) -> float:
        """How far training has come, in [0, 1]."""
        return min(1.0, self.global_step / self.trainer.estimated_stepping_batches)


def as_stored(view: Tensor) -> Tensor:
    """channels_last: convolutions on a CPU in bfloat16 were 3 times faster with it."""
    return view.contiguous(memory_format=torch.channels_last)
