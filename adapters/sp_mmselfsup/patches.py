"""Repairs of the hosts' own faults under today's libraries.

Each is made when an algorithm of the host has been built, so only for a host that is in use; only
where its fault is found, by trying it; and once, with one line in the log. When a library is
mended its repair is no longer found necessary, and can be taken out here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from mmengine.logging import print_log

from sp_mmselfsup import patch_rules


class Patch(NamedTuple):
    """One fault: what it is for the log, whether ``host`` has it, and how it is mended."""

    what: str
    found: Callable[[Any], bool]
    mend: Callable[[Any], None]


PATCHES = (
    Patch(
        "mmselfsup's registries name modules that it does not have",
        patch_rules.has_missing_locations,
        patch_rules.drop_missing_locations,
    ),
    Patch(
        "mmcv's adjust_hue takes no negative hue under NumPy 2",
        patch_rules.hue_overflows,
        patch_rules.mend_hue,
    ),
    Patch(
        "mmengine cannot load its own checkpoints, as torch.load takes weights only",
        patch_rules.checkpoints_are_refused,
        patch_rules.allow_checkpoints,
    ),
    Patch(
        "default_collate takes no '_scope_', which a config inherited by 'package::' carries",
        patch_rules.collate_refuses_scope,
        patch_rules.mend_collate,
    ),
    Patch(
        "the config of PixMIM names transforms that mmcls 1.0.0rc6 does not have",
        patch_rules.no_to_rgb,
        patch_rules.add_to_rgb,
    ),
    Patch(
        "the hooks of ODC and DeepCluster look for a model inside a DDP wrapper",
        patch_rules.wants_wrapper,
        patch_rules.stand_in_for_wrapper,
    ),
)


def apply_patches(host: Any) -> list[str]:
    """Mend what is found broken for this algorithm of a host.

    Args:
        host: an algorithm that has been built.

    Returns:
        What was mended, as said in the log.
    """
    broken = [fault for fault in PATCHES if fault.found(host)]
    for fault in broken:
        fault.mend(host)
        print_log(f"SP: repaired: {fault.what}", logger="current", level=logging.WARNING)
    return [fault.what for fault in broken]
