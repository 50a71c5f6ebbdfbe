"""What hosts call the weights of one and the same backbone.

Names are those of torchvision's ResNets and of timm; hosts put a prefix before them or, some, use
their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Rename = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> Rename:
    return tuple((re.compile(pattern), new) for pattern, new in pairs)


RENAMES: dict[str, Rename] = {
    "as they are": (),
    # lightly's examples: nn.Sequential(*list(resnet.children())[:-1]).
    "torchvision's ResNet as nn.Sequential": _rules(
        (r"^0\.", "conv1."),
        (r"^1\.", "bn1."),
        *((rf"^{place}\.", f"layer{place - 3}.") for place in (4, 5, 6, 7)),
    ),
    # mmselfsup 1.0 and mmpretrain 1.2, models/backbones/vision_transformer.py.
    "OpenMMLab's ViT": _rules(
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"^layers\.(\d+)\.ln([12])\.", r"blocks.\1.norm\2."),
        (r"^layers\.(\d+)\.norm([12])\.", r"blocks.\1.norm\2."),
        (r"^layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1."),
        (r"^layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2."),
        (r"^layers\.(\d+)\.", r"blocks.\1."),
        (r"^(?:ln1|norm1)\.", "norm."),
    ),
}

# A copy that a teacher keeps, not what was trained.
_COPIES = ("momentum", "teacher", "target", "ema", "key")


def renamed(name: str, rules: Rename) -> str:
    """The name by the first rule that fits it.

    >>> renamed("layers.3.ffn.layers.1.bias", RENAMES["OpenMMLab's ViT"])
    'blocks.3.mlp.fc2.bias'
    """
    for pattern, new in rules:
        changed, count = pattern.subn(new, name)
        if count:
            return changed
    return name


def prefixes(names: Iterable[str]) -> list[str]:
    """Every prefix that ends in a dot, and none: the shortest first, copies last.

    >>> prefixes(["backbone.fc.bias", "momentum_backbone.fc.bias"])[:3]
    ['', 'backbone.', 'backbone.fc.']
    """
    found = {""}
    for name in names:
        parts = name.split(".")
        found.update(".".join(parts[:end]) + "." for end in range(1, len(parts)))
    return sorted(found, key=lambda prefix: (is_copy(prefix), prefix.count("."), prefix))


def is_copy(prefix: str) -> bool:
    """Whether a prefix is that of a teacher.

    >>> is_copy("momentum_backbone."), is_copy("student_backbone."), is_copy("backbone.")
    (True, False, False)
    """
    words = re.split(r"[._]", prefix.lower())
    return any(word in _COPIES for word in words)
