"""SimCLR (Chen et al., ICML 2020): python simclr.py --data FOLDER [--sp 0.5]"""

from __future__ import annotations

from typing import Any

from common import LitMethod, arguments, fit
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from sp_lightning import SPCallback
from torch import Tensor


class LitSimCLR(LitMethod):
    def __init__(self) -> None:
        super().__init__()
        self.projector = SimCLRProjectionHead(512, 512, 128)
        self.criterion = NTXentLoss(temperature=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, second = (self.projector(self.backbone(view)) for view in batch[0])
        return self.criterion(first, second)


if __name__ == "__main__":
    given = arguments()
    transform = SimCLRTransform(input_size=given.side)
    callbacks = [] if given.sp is None else [SPCallback(weight=given.sp, source=given.source)]
    fit(LitSimCLR(), transform, given, callbacks)
