"""Keys of the same backbone in the checkpoints of different frameworks.

The backbones here use the keys of torchvision's ResNets and of timm. Frameworks add a prefix, and
two of them rename the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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
}

# Words in the prefix of an EMA teacher or another copy of the backbone.
_COPIES = ("momentum", "teacher", "target", "ema", "key")


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


def is_counter(key: str) -> bool:
    """Whether it is BatchNorm's counter of batches, which some frameworks omit and none needs."""
    return key.endswith("num_batches_tracked")


def candidate_prefixes(keys: Iterable[str]) -> list[str]:
    """All prefixes of the keys that end in a dot, and the empty one: short first, copies last.

    >>> candidate_prefixes(["backbone.fc.bias", "momentum_backbone.fc.bias"])[:3]
    ['', 'backbone.', 'backbone.fc.']
    """
    prefixes = {""}
    for key in keys:
        parts = key.split(".")
        prefixes.update(".".join(parts[:end]) + "." for end in range(1, len(parts)))
    return sorted(prefixes, key=lambda prefix: (is_copy(prefix), prefix.count("."), prefix))


def is_copy(prefix: str) -> bool:
    """Whether a prefix is that of an EMA teacher or another copy.

    >>> is_copy("momentum_backbone."), is_copy("student_backbone."), is_copy("backbone.")
    (True, False, False)
    """
    words = re.split(r"[._]", prefix.lower())
    return any(word in _COPIES for word in words)
