"""Checkpoints: the module's own state is a plain run's; SP's stands in the callback's state."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from sp_lightning.student import ParamGroupIndex


def exclude_from_state_dict(module: nn.Module, name: str) -> list[RemovableHandle]:
    """Leave the submodule ``name`` out of the module's state dict, and do not ask for it on load.

    So what is saved from here loads strictly into the plain module, and the other way round.

    Returns:
        Handles; ``remove()`` undoes it.
    """
    part = module.get_submodule(name)

    def drop(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
        for key in [key for key in state if key.startswith(f"{prefix}{name}.")]:
            del state[key]

    def fill(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
        for key, value in part.state_dict().items():
            state.setdefault(prefix + key, value)

    return [
        module.register_state_dict_post_hook(drop),
        part.register_load_state_dict_pre_hook(fill),
    ]


def extend_optimizer_state(
    optimizer_states: list[dict[str, Any]], where: ParamGroupIndex, count: int
) -> None:
    """Add ``count`` parameters without state to a group of a plain run's optimizer states.

    So that a run may go on from a plain checkpoint with SP's head, which starts anew.
    """
    groups = optimizer_states[where.optimizer]["param_groups"]
    first = 1 + max((index for group in groups for index in group["params"]), default=-1)
    groups[where.group]["params"].extend(range(first, first + count))
