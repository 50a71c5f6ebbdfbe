"""Prefixes of a backbone's keys in a checkpoint, and which of them are copies of the student."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from sp_bench.errors import UsageError
from sp_plugin.validation import did_you_mean

Value = TypeVar("Value")

# Parts of a key that wrappers add: DataParallel and DDP, activation checkpointing, FSDP,
# torch.compile, and the strategies of Lightning.
_WRAPPERS = frozenset(
    ("module", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_orig_mod", "_forward_module")
)
# Words in the prefix of an EMA teacher or another copy: momentum_encoder (MoCo v3), encoder_k
# (MoCo), target_net (BYOL), teacher (DINO), state_dict_ema (timm), model_ema.
_COPIES = frozenset(("momentum", "teacher", "target", "ema", "key", "k", "swa", "averaged"))


def drop_wrappers(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Weights by key without the parts that wrappers add, wherever in the key they are.

    >>> drop_wrappers({"module.layer1._orig_mod.0.weight": 1})
    {'layer1.0.weight': 1}
    """
    plain = {key: _without_wrappers(key) for key in weights}
    counts: dict[str, int] = {}
    for name in plain.values():
        counts[name] = counts.get(name, 0) + 1
    # Two keys that differ only in a wrapper's name are two weights.
    return {plain[k] if counts[plain[k]] == 1 else k: value for k, value in weights.items()}


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


def select_prefixes(given: str, prefixes: Iterable[str]) -> list[str]:
    """The prefixes that contain the given one at any place, as whole parts of the key.

    Args:
        given: such as ``teacher.backbone.``; empty for no prefix.
        prefixes: prefixes of the checkpoint.

    Raises:
        UsageError: there is none; the line has the nearest.

    >>> select_prefixes("teacher", ["", "student.net.", "teacher.", "teacher.net."])
    ['teacher.', 'teacher.net.']
    """
    if not given:
        return [""]
    prefixes = list(prefixes)
    wanted = f".{_without_wrappers(given.strip('.'))}."
    found = [prefix for prefix in prefixes if wanted in f".{prefix}"]
    if not found:
        hint = did_you_mean(wanted[1:], [prefix for prefix in prefixes if prefix.count(".") < 3])
        raise UsageError(f"checkpoint: nothing below {wanted[1:]!r}; {hint}")
    return found


def is_copy(prefix: str) -> bool:
    """Whether a prefix is that of an EMA teacher or another copy.

    >>> is_copy("momentum_backbone."), is_copy("encoder_k."), is_copy("student_backbone.")
    (True, True, False)
    """
    return not _COPIES.isdisjoint(re.split(r"[._]", prefix.lower()))


def _without_wrappers(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)
