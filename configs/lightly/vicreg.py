"""VICReg (Bardes et al., ICLR 2022): python vicreg.py --data FOLDER [--sp 0.5]"""

from __future__ import annotations

from typing import Any

from common import LitMethod, arguments, fit
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from lightly.transforms import VICRegTransform
from sp_lightning import SPCallback
from torch import Tensor


class LitVICReg(LitMethod):
    def __init__(self) -> None:
        super().__init__()
        self.projector = VICRegProjectionHead(512, 2048, 2048, num_layers=3)
        self.criterion = VICRegLoss()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, second = (self.projector(self.backbone(view)) for view in batch[0])
        return self.criterion(first, second)


if __name__ == "__main__":
    given = arguments()
    transform = VICRegTransform(input_size=given.side)
    callbacks = [] if given.sp is None else [SPCallback(weight=given.sp, source=given.source)]
    fit(LitVICReg(), transform, given, callbacks)
