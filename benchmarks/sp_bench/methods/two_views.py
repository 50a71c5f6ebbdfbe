"""Methods that compare two views of an image, both encoded by the student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightly.loss import BarlowTwinsLoss, NTXentLoss, VICRegLoss
from lightly.models.modules import BarlowTwinsProjectionHead, SimCLRProjectionHead
from lightly.models.modules.heads import VICRegProjectionHead
from lightly.transforms import (
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
    SimCLRTransform,
    VICRegTransform,
)
from torch import Tensor

from sp_bench.methods.base import MIN_SCALE, Method, blur_sigmas


class _TwoViews(Method):
    def method_loss(self, views: list[Tensor]) -> Tensor:
        first, second = (self.projector(self.backbone(view)) for view in views)
        loss: Tensor = self.criterion(first.float(), second.float())
        return loss


class SimCLR(_TwoViews):
    """Chen et al., A Simple Framework for Contrastive Learning, ICML 2020."""

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        # Half the strength of the colour jitter, as in the paper for small images (appendix B.9).
        return SimCLRTransform(
            input_size=side, sigmas=blur_sigmas(side), min_scale=MIN_SCALE, cj_strength=0.5
        )

    def build(self, feature_dim: int) -> None:
        self.projector = SimCLRProjectionHead(feature_dim, feature_dim, 128)
        self.criterion = NTXentLoss(temperature=0.2)


class VICReg(_TwoViews):
    """Bardes et al., VICReg, ICLR 2022."""

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        return VICRegTransform(input_size=side, sigmas=blur_sigmas(side), min_scale=MIN_SCALE)

    def build(self, feature_dim: int) -> None:
        self.projector = VICRegProjectionHead(feature_dim, 1024, 1024, num_layers=2)
        self.criterion = VICRegLoss()


class BarlowTwins(_TwoViews):
    """Zbontar et al., Barlow Twins, ICML 2021. With BYOL's views, as in lightly."""

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        return byol_views(side)

    def build(self, feature_dim: int) -> None:
        self.projector = BarlowTwinsProjectionHead(feature_dim, 1024, 1024)
        self.criterion = BarlowTwinsLoss()


def byol_views(side: int) -> Callable[[Any], list[Tensor]]:
    """Transform to BYOL's two asymmetric views of ``side`` pixels."""
    sigmas = blur_sigmas(side)
    return BYOLTransform(
        BYOLView1Transform(input_size=side, sigmas=sigmas, min_scale=MIN_SCALE),
        BYOLView2Transform(input_size=side, sigmas=sigmas, min_scale=MIN_SCALE),
    )
