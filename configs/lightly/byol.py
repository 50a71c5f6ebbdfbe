"""BYOL (Grill et al., NeurIPS 2020): python byol.py --data FOLDER [--sp 0.5]"""

from __future__ import annotations

import copy
from typing import Any

import torch
from common import LitMethod, arguments, fit
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from sp_lightning import SPCallback
from torch import Tensor, nn


class LitBYOL(LitMethod):
    def __init__(self) -> None:
        super().__init__()
        self.projector = BYOLProjectionHead(512, 1024, 256)
        self.predictor = BYOLPredictionHead(256, 1024, 256)
        self.teacher = copy.deepcopy(nn.Sequential(self.backbone, self.projector))
        deactivate_requires_grad(self.teacher)
        self.criterion = NegativeCosineSimilarity()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        update_momentum(nn.Sequential(self.backbone, self.projector), self.teacher, m=0.996)
        online = [self.predictor(self.projector(self.backbone(view))) for view in batch[0]]
        with torch.no_grad():
            target = [self.teacher(view) for view in batch[0]]
        return (self.criterion(online[0], target[1]) + self.criterion(online[1], target[0])) / 2


def views(side: int) -> BYOLTransform:
    return BYOLTransform(BYOLView1Transform(input_size=side), BYOLView2Transform(input_size=side))


if __name__ == "__main__":
    given = arguments()
    transform = views(given.side)
    callbacks = [] if given.sp is None else [SPCallback(weight=given.sp, source=given.source)]
    fit(LitBYOL(), transform, given, callbacks)
