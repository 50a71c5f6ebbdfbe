"""Keys of the same backbone in the checkpoints of different frameworks.

The backbones here use the keys of torchvision's ResNets and of timm. Frameworks add a prefix, and
some rename the keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

Renames = tuple[tuple[re.Pattern[str], str], ...]


def _compile(*pairs: tuple[str, str]) -> Renames:
    return tuple((re.compile(pattern), new) for pattern, new in pairs)


RENAMES: dict[str, Renames] = {
    "as they are": (),
    # lightly's examples: nn.Sequential(*list(resnet.children())[:-1]).
    "torchvision's ResNet as nn.Sequential": _compile(
        (r"^0\.", "conv1."),
        (r"^1\.", "bn1."),
        *((rf"^{index}\.", f"layer{index - 3}.") for index in (4, 5, 6, 7)),
    ),
    # mmselfsup 1.0 and mmpretrain 1.2, models/backbones/vision_transformer.py.
    "OpenMMLab's ViT": _compile(
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"^layers\.(\d+)\.ln([12])\.", r"blocks.\1.norm\2."),
        (r"^layers\.(\d+)\.norm([12])\.", r"blocks.\1.norm\2."),
        (r"^layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1."),
        (r"^layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2."),
        (r"^layers\.(\d+)\.", r"blocks.\1."),
        (r"^(?:ln1|norm1)\.", "norm."),
    ),
    # transformers 4, models/vit, vit_mae and dinov2.
    "Hugging Face's ViT": _compile(
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
        (r"^encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
        (r"^encoder\.layer\.(\d+)\.attention\.attention\.query\.", r"blocks.\1.attn.q."),
        (r"^encoder\.layer\.(\d+)\.attention\.attention\.key\.", r"blocks.\1.attn.k."),
        (r"^encoder\.layer\.(\d+)\.attention\.attention\.value\.", r"blocks.\1.attn.v."),
        (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
        (r"^encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
        (r"^encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
        (r"^encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.ls\2.gamma"),
        (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
        (r"^layernorm\.", "norm."),
    ),
    # torchvision 0.29, models/vision_transformer.py; mlp.0 and mlp.3 in earlier versions.
    "torchvision's ViT": _compile(
        (r"^class_token$", "cls_token"),
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^encoder\.ln\.", "norm."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
        (
            r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_",
            r"blocks.\1.attn.qkv.",
        ),
        (
            r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.",
            r"blocks.\1.attn.proj.",
        ),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:linear_1|0)\.", r"blocks.\1.mlp.fc1."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:linear_2|3)\.", r"blocks.\1.mlp.fc2."),
    ),
    # dinov2's training code with block_chunks: blocks.CHUNK.BLOCK.
    "DINOv2 in chunks": _compile((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.")),
}
# Tensors that training masks with, or that the size of the images gives: timm and the authors'
# files of Swin and DINOv3 keep or omit them.
_NOT_LEARNT = ("mask_token", "attn_mask", "relative_coords_table", "bias_mask")
_SEPARATE = re.compile(r"^(.*\.attn)\.q\.(weight|bias)$")


def rename_key(key: str, renames: Renames) -> str:
    """Key by the first rename whose pattern matches it.

    >>> rename_key("layers.3.ffn.layers.1.bias", RENAMES["OpenMMLab's ViT"])
    'blocks.3.mlp.fc2.bias'
    """
    for pattern, new in renames:
        renamed, count = pattern.subn(new, key)
        if count:
            return renamed
    return key


def rename_weights(weights: Mapping[str, Tensor], renames: Renames) -> dict[str, Tensor]:
    """Weights by timm's keys, with separate query, key and value joined as timm has them."""
    renamed = {rename_key(key, renames): value for key, value in weights.items()}
    for key in list(renamed):
        if match := _SEPARATE.match(key):
            names = [f"{match[1]}.{part}.{match[2]}" for part in "qkv"]
            if all(name in renamed for name in names):
                joined = torch.cat([renamed.pop(name) for name in names])
                renamed[f"{match[1]}.qkv.{match[2]}"] = joined
    return renamed


def is_counter(key: str) -> bool:
    """Whether it is BatchNorm's counter of batches, which some frameworks omit and none needs."""
    return key.endswith("num_batches_tracked")


def is_classifier(key: str) -> bool:
    """Whether it is a weight of a classifier, or of the layers before it in the same part.

    >>> is_classifier("fc.bias"), is_classifier("fc_norm.bias")
    (True, False)
    """
    return key.split(".")[0] in ("fc", "head", "heads", "classifier")


def is_removable(key: str, value: Tensor) -> bool:
    """Whether features are the same without it: of a classifier, a mask, or an index (integers).

    >>> is_removable("head.bias", torch.ones(1)), is_removable("layer1.2.bn1.bias", torch.ones(1))
    (True, False)
    """
    return is_classifier(key) or not value.is_floating_point() or key.endswith(_NOT_LEARNT)
