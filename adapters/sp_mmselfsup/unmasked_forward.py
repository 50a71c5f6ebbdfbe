"""SP's crops through a host's backbone: whole, for masked ones too.

A masked backbone of MMSelfSup or MMPretrain is a subclass of the plain one that is fine-tuned
afterwards, with a ``forward`` of its own that masks. The plain class's ``forward`` encodes the
same weights unmasked, at any size that the plain class takes.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from sp_plugin.features.extraction import FeatureFn

# Backbones whose ``forward`` masks, as both hosts name them (models/backbones of MMSelfSup,
# models/selfsup of MMPretrain). It is not to be seen in a signature: MAEViT takes images alone.
_MASKED = frozenset(
    {
        "BEiTPretrainViT",
        "BEiTViT",
        "CAEPretrainViT",
        "CAEViT",
        "MAEHiViT",
        "MAEViT",
        "MFFViT",
        "MILANViT",
        "MaskFeatViT",
        "MixMIMPretrainTransformer",
        "MixMIMTransformerPretrain",
        "SimMIMSwinTransformer",
        "iTPNHiViT",
    }
)
_WHERE = ("mmselfsup.models.backbones.", "mmpretrain.models.selfsup.")
_SPARSE = "mmpretrain.models.utils.sparse_modules"


def unmasked_feature_fn(backbone: nn.Module) -> FeatureFn | None:
    """How SP's crops pass through this backbone; None where calling it is all there is to it.

    Returns:
        A function of the backbone and crops (B, 3, S, S), to what the backbone gives for them.

    >>> unmasked_feature_fn(nn.Conv2d(3, 8, 3)) is None
    True
    """
    plain = _plain_class(type(backbone))
    if plain is not None:
        return functools.partial(_unmasked, plain)
    if any(type(part).__module__ == _SPARSE for part in backbone.modules()):
        return _dense
    return None


def _plain_class(cls: type) -> type | None:
    """The first class beyond the last one that masks, in the order in which methods are found."""
    order = cls.__mro__
    masked = [index for index, base in enumerate(order) if _masks(base)]
    return order[masked[-1] + 1] if masked else None


def _masks(cls: type) -> bool:
    return cls.__name__ in _MASKED and f"{cls.__module__}.".startswith(_WHERE)


def _unmasked(plain: Any, backbone: nn.Module, crops: Tensor) -> Any:
    output = plain.forward(backbone, crops)
    return output if len(output) else _last_block(plain, backbone, crops)


def _last_block(plain: Any, backbone: Any, crops: Tensor) -> Tensor:
    """HiViT counts ``out_indices`` within its last stage; the pre-training default is beyond it.

    Its forward (mmpretrain/models/backbones/hivit.py) then gives nothing at all.
    """
    kept: list[Tensor] = []
    handle = backbone.blocks[-1].register_forward_hook(lambda *call: kept.append(call[-1]))
    try:
        plain.forward(backbone, crops)
    finally:
        handle.remove()
    return kept[-1]


def _dense(backbone: nn.Module, crops: Tensor) -> Any:
    """SparK's sparse convolutions with every place active.

    They read the mask from an attribute of their class, which SparK's loss sets in each step.
    """
    from mmpretrain.models.utils.sparse_modules import SparseHelper

    before = SparseHelper._cur_active
    # One place for a whole crop: it is repeated to each layer's height and width.
    SparseHelper._cur_active = torch.ones(
        len(crops), 1, 1, 1, dtype=torch.bool, device=crops.device
    )
    try:
        return backbone(crops)
    finally:
        SparseHelper._cur_active = before
