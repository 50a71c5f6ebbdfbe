"""SwAV (Caron et al., NeurIPS 2020), multi-crop: python swav.py --data FOLDER [--sp 0.5]"""

from __future__ import annotations

from typing import Any

from common import LitMethod, arguments, fit
from lightly.loss import SwaVLoss
from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
from lightly.transforms import SwaVTransform
from sp_lightning import SPCallback
from torch import Tensor
from torch.nn.functional import normalize


class LitSwAV(LitMethod):
    def __init__(self) -> None:
        super().__init__()
        self.projector = SwaVProjectionHead(512, 512, 128)
        self.prototypes = SwaVPrototypes(128, n_prototypes=512)
        self.criterion = SwaVLoss()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.prototypes.normalize()
        features = (self.projector(self.backbone(view)) for view in batch[0])
        scores = [self.prototypes(normalize(z, dim=1)) for z in features]
        return self.criterion(scores[:2], scores[2:])


if __name__ == "__main__":
    given = arguments()
    transform = SwaVTransform(crop_sizes=(given.side, given.side * 3 // 7))
    callbacks = [] if given.sp is None else [SPCallback(weight=given.sp, source=given.source)]
    fit(LitSwAV(), transform, given, callbacks)
