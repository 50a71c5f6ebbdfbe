"""DINO (Caron et al., ICCV 2021), multi-crop: python dino.py --data FOLDER [--sp 0.5]"""

from __future__ import annotations

import copy
from typing import Any

import torch
from common import LitMethod, arguments, fit
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import DINOTransform
from sp_lightning import SPCallback
from torch import Tensor


class LitDINO(LitMethod):
    def __init__(self) -> None:
        super().__init__()
        self.projector = DINOProjectionHead(512, 512, 64, 2048, freeze_last_layer=1)
        self.teacher_backbone = copy.deepcopy(self.backbone)
        # Not a deepcopy: the tensors that weight norm computes cannot be copied.
        self.teacher_projector = DINOProjectionHead(512, 512, 64, 2048)
        self.teacher_projector.load_state_dict(self.projector.state_dict())
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_projector)
        self.criterion = DINOLoss(output_dim=2048, warmup_teacher_temp_epochs=5)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        update_momentum(self.backbone, self.teacher_backbone, m=0.996)
        update_momentum(self.projector, self.teacher_projector, m=0.996)
        with torch.no_grad():
            targets = [self.teacher_projector(self.teacher_backbone(view)) for view in batch[0][:2]]
        predictions = [self.projector(self.backbone(view)) for view in batch[0]]
        return self.criterion(targets, predictions, epoch=self.current_epoch)

    def on_after_backward(self) -> None:
        self.projector.cancel_last_layer_gradients(current_epoch=self.current_epoch)


if __name__ == "__main__":
    given = arguments()
    transform = DINOTransform(global_crop_size=given.side, local_crop_size=given.side * 3 // 7)
    callbacks = [] if given.sp is None else [SPCallback(weight=given.sp, source=given.source)]
    fit(LitDINO(), transform, given, callbacks)
