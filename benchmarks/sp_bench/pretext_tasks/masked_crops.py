"""Masked crops: SP that reads a random half of each crop's patches, at about half of the cost."""

from __future__ import annotations

from typing import Any

from timm.layers import PatchDropout
from torch import nn

from sp_bench.errors import UsageError
from sp_plugin import SpatialPrediction
from sp_plugin.structures import Crops, EncodedViews

_DROPPED = 0.5


class MaskedCrops(SpatialPrediction):
    """`SpatialPrediction` whose crops lose half of their patches on the way into a ViT of timm.

    The patches that are left keep their position embeddings, as those of MAE's encoder do (He et
    al., CVPR 2022, section 3). The method's own passes see all that they saw.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config, feature_fn: as for SP.
    """

    def encode_crops(
        self, backbone: nn.Module, crops: Crops, seed: int, needs_gradient: bool = True
    ) -> EncodedViews:
        """Features of a random half of each crop's patches; arguments as for SP.

        Raises:
            UsageError: the backbone is no ViT of timm.
        """
        vit: Any = backbone
        if not hasattr(vit, "patch_drop"):
            raise UsageError("pretext: masked_crops takes a ViT of timm, such as tiny_vit")
        whole = vit.patch_drop
        vit.patch_drop = PatchDropout(_DROPPED, num_prefix_tokens=vit.num_prefix_tokens)
        try:
            return super().encode_crops(backbone, crops, seed, needs_gradient)
        finally:
            vit.patch_drop = whole
