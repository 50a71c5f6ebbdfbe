"""MAE (He et al., CVPR 2022), on a ViT: python mae.py --data FOLDER [--sp 0.5]"""

from __future__ import annotations

from typing import Any

import torch
from common import LitMethod, arguments, fit
from lightly.models import utils
from lightly.models.modules import (
    MaskedVisionTransformerDecoderTIMM,
    MaskedVisionTransformerTIMM,
)
from lightly.transforms import MAETransform
from sp_lightning import SPCallback
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class LitMAE(LitMethod):
    def __init__(self, side: int) -> None:
        super().__init__()
        # Position embeddings of any size, so that SP's crops stay small.
        vit = VisionTransformer(
            side, patch_size=16, embed_dim=384, depth=12, num_heads=6, num_classes=0,
            dynamic_img_size=True,
        )  # fmt: skip
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.to_decoder = nn.Linear(384, 256)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches, embed_dim=256, depth=4, num_heads=8,
            num_prefix_tokens=vit.num_prefix_tokens,
        )  # fmt: skip
        self.to_pixels = nn.Linear(256, 3 * 16**2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images = batch[0][0]
        shape = (len(images), self.backbone.sequence_length)
        keep, masked = utils.random_token_mask(shape, mask_ratio=0.75, device=self.device)
        seen = self.to_decoder(self.backbone.encode(images=images, idx_keep=keep))
        tokens = utils.set_at_index(seen.new_zeros(*shape, seen.shape[-1]), keep, seen)
        pred = self.to_pixels(utils.get_at_index(self.decoder(tokens, idx_mask=masked), masked))
        patches = utils.normalize_mean_var(utils.patchify(images, 16))
        # Masked indices count the class token, patches do not.
        return nn.functional.mse_loss(pred, utils.get_at_index(patches, masked - 1))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95))


if __name__ == "__main__":
    given = arguments()
    transform = MAETransform(input_size=given.side)
    callbacks = [] if given.sp is None else [SPCallback(weight=given.sp, source=given.source)]
    fit(LitMAE(given.side), transform, given, callbacks)
