"""DINO: self-distillation over two full views and local ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.transforms import DINOTransform
from torch import Tensor, nn

from sp_bench.methods.base import blur_sigmas
from sp_bench.methods.momentum import MomentumMethod

_OUTPUTS = 1024


class DINO(MomentumMethod):
    """Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021.

    With two full views and four local views of half their side.
    """

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        return DINOTransform(
            global_crop_size=side,
            local_crop_size=side // 2,
            n_local_views=4,
            sigmas=blur_sigmas(side),
        )

    projector: DINOProjectionHead

    def new_projector(self, feature_dim: int) -> nn.Module:
        return DINOProjectionHead(feature_dim, 512, 64, _OUTPUTS, freeze_last_layer=1)

    def build(self, feature_dim: int) -> None:
        super().build(feature_dim)
        self.criterion = DINOLoss(output_dim=_OUTPUTS, warmup_teacher_temp_epochs=5)

    def method_loss(self, views: list[Tensor]) -> Tensor:
        self.update_teacher()
        teacher = [self.teacher(view).float() for view in views[:2]]
        student = [self.student(view).float() for view in views]
        loss: Tensor = self.criterion(teacher, student, epoch=self.current_epoch)
        return loss

    def on_after_backward(self) -> None:
        self.projector.cancel_last_layer_gradients(current_epoch=self.current_epoch)
