"""Patches for faults of MMSelfSup, MMPretrain and MMEngine with current libraries.

They are applied when an algorithm has been built: only to a framework in use, only where a trial
shows the fault, and once, with one line in the log. A patch that a new release makes unnecessary
is no longer applied, and can be removed here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from mmengine.logging import print_log

from sp_mmselfsup import patch_rules as rules

__all__ = ["PATCHES", "Patch", "apply_patches"]


class Patch(NamedTuple):
    """Patch for one fault.

    Attributes:
        description: the fault, for the log.
        is_needed: function of a built algorithm: whether its framework has the fault.
        apply: function of that algorithm that patches it.
    """

    description: str
    is_needed: Callable[[Any], bool]
    apply: Callable[[Any], None]


PATCHES = (
    Patch(
        "mmselfsup's registries name modules that it does not have",
        rules.has_missing_modules,
        rules.patch_missing_modules,
    ),
    Patch(
        "mmcv's adjust_hue takes no negative hue under NumPy 2",
        rules.has_hue_overflow,
        rules.patch_hue_overflow,
    ),
    Patch(
        "mmengine cannot load its own checkpoints, as torch.load takes weights only",
        rules.has_refused_checkpoints,
        rules.patch_refused_checkpoints,
    ),
    Patch(
        "default_collate takes no '_scope_', which a config inherited by 'package::' contains",
        rules.has_refused_scope,
        rules.patch_refused_scope,
    ),
    Patch(
        "the config of PixMIM names transforms that mmcls 1.0.0rc6 does not have",
        rules.has_missing_transforms,
        rules.patch_missing_transforms,
    ),
    Patch(
        "the hooks of ODC and DeepCluster require a model in a DDP wrapper",
        rules.has_missing_wrapper,
        rules.patch_missing_wrapper,
    ),
)


def apply_patches(algorithm: Any) -> list[str]:
    """Apply the patches that a built algorithm needs.

    Returns:
        Their descriptions, as written to the log.
    """
    needed = [patch for patch in PATCHES if patch.is_needed(algorithm)]
    for patch in needed:
        patch.apply(algorithm)
        print_log(f"SP: patched: {patch.description}", logger="current", level=logging.WARNING)
    return [patch.description for patch in needed]
