"""Unmasked forward pass of masked backbones, for SP's crops.

A masked backbone of MMSelfSup or MMPretrain is a subclass of the plain one that is fine-tuned
afterwards, with a ``forward`` of its own that masks. The plain class's ``forward`` encodes with the
same weights, unmasked, at any size that the plain class takes.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from sp_plugin.features.backbone_call import FeatureFn

__all__ = ["unmasked_feature_fn"]

# Backbones whose ``forward`` masks, of both frameworks (models/backbones of MMSelfSup,
# models/selfsup of MMPretrain). No signature shows it: MAEViT takes images alone.
_MASKED_CLASSES = (
    "BEiTPretrainViT", "BEiTViT", "CAEPretrainViT", "CAEViT", "MAEHiViT", "MAEViT", "MFFViT",
    "MILANViT", "MaskFeatViT", "MixMIMPretrainTransformer", "MixMIMTransformerPretrain",
    "SimMIMSwinTransformer", "iTPNHiViT",
)  # fmt: skip
_MASKED_MODULES = ("mmselfsup.models.backbones.", "mmpretrain.models.selfsup.")
_SPARSE_MODULE = "mmpretrain.models.utils.sparse_modules"


def unmasked_feature_fn(backbone: nn.Module) -> FeatureFn | None:
    """Function that encodes crops with a backbone unmasked; None: calling the backbone does.

    Returns:
        A function of the backbone and crops (B, 3, S, S), to the backbone's output for them.

    >>> unmasked_feature_fn(nn.Conv2d(3, 8, 3)) is None
    True
    """
    plain = _plain_class(type(backbone))
    if plain is not None:
        return functools.partial(_forward_plain, plain)
    if any(type(part).__module__ == _SPARSE_MODULE for part in backbone.modules()):
        return _forward_dense
    return None


def _plain_class(cls: type) -> type | None:
    """The first class after the last masked one, in method resolution order."""
    order = cls.__mro__
    masked = [index for index, base in enumerate(order) if _is_masked(base)]
    return order[masked[-1] + 1] if masked else None


def _is_masked(cls: type) -> bool:
    return cls.__name__ in _MASKED_CLASSES and f"{cls.__module__}.".startswith(_MASKED_MODULES)


def _forward_plain(plain: Any, backbone: nn.Module, crops: Tensor) -> Any:
    output = plain.forward(backbone, crops)
    return output if len(output) else _last_block_output(plain, backbone, crops)


def _last_block_output(plain: Any, backbone: Any, crops: Tensor) -> Tensor:
    """Output of HiViT's last block.

    HiViT (mmpretrain/models/backbones/hivit.py) counts ``out_indices`` within its last stage; the
    default for pre-training is beyond it, and its forward then returns nothing.
    """
    outputs: list[Tensor] = []
    handle = backbone.blocks[-1].register_forward_hook(lambda *call: outputs.append(call[-1]))
    try:
        plain.forward(backbone, crops)
    finally:
        handle.remove()
    return outputs[-1]


def _forward_dense(backbone: nn.Module, crops: Tensor) -> Any:
    """SparK's sparse convolutions with every position active.

    They read the mask from an attribute of their class, which SparK's loss sets in each step.
    """
    from mmpretrain.models.utils.sparse_modules import SparseHelper

    mask = SparseHelper._cur_active
    # One position for a whole crop: it is repeated to each layer's height and width.
    SparseHelper._cur_active = torch.ones(
        len(crops), 1, 1, 1, dtype=torch.bool, device=crops.device
    )
    try:
        return backbone(crops)
    finally:
        SparseHelper._cur_active = mask
