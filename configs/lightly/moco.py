"""MoCo v2 (Chen et al., 2020): python moco.py --data FOLDER [--sp 0.5]"""

from __future__ import annotations

import copy
from typing import Any

import torch
from common import LitMethod, arguments, fit
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform
from sp_lightning import SPCallback
from torch import Tensor, nn


class LitMoCo(LitMethod):
    def __init__(self) -> None:
        super().__init__()
        self.projector = MoCoProjectionHead(512, 512, 128)
        self.teacher = copy.deepcopy(nn.Sequential(self.backbone, self.projector))
        deactivate_requires_grad(self.teacher)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(65536, 128))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        update_momentum(nn.Sequential(self.backbone, self.projector), self.teacher, m=0.999)
        query = self.projector(self.backbone(batch[0][0]))
        with torch.no_grad():
            key = self.teacher(batch[0][1])
        return self.criterion(query, key)


if __name__ == "__main__":
    given = arguments()
    transform = MoCoV2Transform(input_size=given.side)
    callbacks = [] if given.sp is None else [SPCallback(weight=given.sp, source=given.source)]
    fit(LitMoCo(), transform, given, callbacks)
