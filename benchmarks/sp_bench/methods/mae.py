"""MAE: a masked autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightly.models import utils
from lightly.models.modules import (
    MaskedVisionTransformerDecoderTIMM,
    MaskedVisionTransformerTIMM,
)
from lightly.transforms import MAETransform
from torch import Tensor, nn

from sp_bench.backbones import is_vit
from sp_bench.errors import UsageError
from sp_bench.methods.base import Method

_DECODER_DIM, _MASKED = 128, 0.75


class MAE(Method):
    """He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022.

    ``backbone`` is the plain ViT, and ``masked`` wraps the same weights with a mask.
    """

    pool = "mean"

    @staticmethod
    def transform(side: int) -> Callable[[Any], list[Tensor]]:
        return MAETransform(input_size=side)

    def build(self, feature_dim: int) -> None:
        vit: Any = self.backbone
        if not is_vit(vit):
            raise UsageError("backbone: mae takes a ViT, such as tiny_vit or vit_tiny_patch16_224")
        self.masked = MaskedVisionTransformerTIMM(vit=vit)
        self.patch: int = vit.patch_embed.patch_size[0]
        self.to_decoder = nn.Linear(feature_dim, _DECODER_DIM)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            embed_dim=_DECODER_DIM,
            depth=2,
            num_heads=4,
            num_prefix_tokens=vit.num_prefix_tokens,
        )
        self.to_pixels = nn.Linear(_DECODER_DIM, self.patch**2 * self.channels)
        self.criterion = nn.MSELoss()

    def method_loss(self, views: list[Tensor]) -> Tensor:
        images = views[0]
        shape = (len(images), self.masked.sequence_length)
        visible, masked = utils.random_token_mask(shape, mask_ratio=_MASKED, device=images.device)
        encoded = self.to_decoder(self.masked.encode(images=images, idx_keep=visible))
        tokens = encoded.new_zeros(*shape, encoded.shape[-1])
        tokens = utils.set_at_index(tokens, visible, encoded)
        decoded = self.decoder(tokens, idx_mask=masked)
        predicted = self.to_pixels(utils.get_at_index(decoded, masked)).float()
        patches = utils.normalize_mean_var(utils.patchify(images.float(), self.patch))
        # The masked indices count the class token, the patches do not.
        loss: Tensor = self.criterion(predicted, utils.get_at_index(patches, masked - 1))
        return loss
