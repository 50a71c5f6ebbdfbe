"""Methods whose second view is encoded by an EMA teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform
from torch import Tensor, nn

from sp_bench.methods.base import Method, blur_sigmas
from sp_bench.methods.two_views import byol_views

# Of the EMA at the start; it rises to 1. The papers' 0.996 and 0.999 are for many more steps.
_MOMENTUM = 0.99


class MomentumMethod(Method):
    """Keeps an EMA teacher of backbone and projector."""

    def new_projector(self, dim: int) -> nn.Module:
        """The projector, for features of width ``dim``."""
        raise NotImplementedError

    def build(self, dim: int) -> None:
        self.projector = self.new_projector(dim)
        self.teacher_backbone = copy.deepcopy(self.backbone)
        # A second one, since a weight norm that has been computed cannot be copied.
        self.teacher_projector = self.new_projector(dim)
        self.teacher_projector.load_state_dict(self.projector.state_dict())
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_projector)

    def update_teacher(self) -> None:
        momentum = 1 - (1 - _MOMENTUM) * (1 - self.training_progress)
        update_momentum(self.backbone, self.teacher_backbone, m=momentum)
        update_momentum(self.projector, self.teacher_projector, m=momentum)

    def student(self, view: Tensor) -> Tensor:
        output: Tensor = self.projector(self.backbone(view))
        return output

    @torch.no_grad()
    def teacher(self, view: Tensor) -> Tensor:
        output: Tensor = self.teacher_projector(self.teacher_backbone(view))
        return output


class MoCo(MomentumMethod):
    """Chen et al., Improved Baselines with Momentum Contrastive Learning (MoCo v2), 2020."""

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        return MoCoV2Transform(input_size=side, sigmas=blur_sigmas(side))

    def new_projector(self, dim: int) -> nn.Module:
        return MoCoProjectionHead(dim, dim, 128)

    def build(self, dim: int) -> None:
        super().build(dim)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(4096, 128))

    def host_loss(self, views: list[Tensor]) -> Tensor:
        self.update_teacher()
        query, key = self.student(views[0]), self.teacher(views[1])
        loss: Tensor = self.criterion(query.float(), key.float())
        return loss


class BYOL(MomentumMethod):
    """Grill et al., Bootstrap Your Own Latent, NeurIPS 2020."""

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        return byol_views(side)

    def new_projector(self, dim: int) -> nn.Module:
        return BYOLProjectionHead(dim, 1024, 256)

    def build(self, dim: int) -> None:
        super().build(dim)
        self.predictor = BYOLPredictionHead(256, 1024, 256)
        self.criterion = NegativeCosineSimilarity()

    def host_loss(self, views: list[Tensor]) -> Tensor:
        self.update_teacher()
        first, second = (self.predictor(self.student(view)) for view in views)
        target_first, target_second = (self.teacher(view) for view in views)
        loss: Tensor = self.criterion(first, target_second) + self.criterion(second, target_first)
        return loss / 2
