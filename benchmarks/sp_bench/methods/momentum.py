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

# Of the EMA at the start; it rises to 1. The papers' 0.996 and 0.999 are for far more steps.
_MOMENTUM = 0.99


class MomentumMethod(Method):
    """Method with an EMA teacher of backbone and projector."""

    def new_projector(self, feature_dim: int) -> nn.Module:
        """Projector with random weights."""
        raise NotImplementedError

    def build(self, feature_dim: int) -> None:
        self.projector = self.new_projector(feature_dim)
        self.teacher_backbone = copy.deepcopy(self.backbone)
        # Built anew: a weight norm that was computed cannot be copied.
        self.teacher_projector = self.new_projector(feature_dim)
        self.teacher_projector.load_state_dict(self.projector.state_dict())
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_projector)

    def update_teacher(self) -> None:
        """Move the teacher towards the student."""
        momentum = 1 - (1 - _MOMENTUM) * (1 - self.training_progress)
        update_momentum(self.backbone, self.teacher_backbone, m=momentum)
        update_momentum(self.projector, self.teacher_projector, m=momentum)

    def student(self, view: Tensor) -> Tensor:
        """Projections (B, K) of a view (B, C, S, S) by the student."""
        output: Tensor = self.projector(self.backbone(view))
        return output

    @torch.no_grad()
    def teacher(self, view: Tensor) -> Tensor:
        """Projections (B, K) of a view (B, C, S, S) by the teacher, without gradients."""
        output: Tensor = self.teacher_projector(self.teacher_backbone(view))
        return output


class MoCo(MomentumMethod):
    """Chen et al., Improved Baselines with Momentum Contrastive Learning (MoCo v2), 2020."""

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        return MoCoV2Transform(input_size=side, sigmas=blur_sigmas(side))

    def new_projector(self, feature_dim: int) -> nn.Module:
        return MoCoProjectionHead(feature_dim, feature_dim, 128)

    def build(self, feature_dim: int) -> None:
        super().build(feature_dim)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(4096, 128))

    def method_loss(self, views: list[Tensor]) -> Tensor:
        self.update_teacher()
        query, key = self.student(views[0]), self.teacher(views[1])
        loss: Tensor = self.criterion(query.float(), key.float())
        return loss


class BYOL(MomentumMethod):
    """Grill et al., Bootstrap Your Own Latent, NeurIPS 2020."""

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        return byol_views(side)

    def new_projector(self, feature_dim: int) -> nn.Module:
        return BYOLProjectionHead(feature_dim, 1024, 256)

    def build(self, feature_dim: int) -> None:
        super().build(feature_dim)
        self.predictor = BYOLPredictionHead(256, 1024, 256)
        self.criterion = NegativeCosineSimilarity()

    def method_loss(self, views: list[Tensor]) -> Tensor:
        self.update_teacher()
        first, second = (self.predictor(self.student(view)) for view in views)
        target_first, target_second = (self.teacher(view) for view in views)
        loss: Tensor = self.criterion(first, target_second) + self.criterion(second, target_first)
        return loss / 2
