"""Checkpoints: the module's state is that of a plain run; SP's state is the callback's."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from sp_lightning.student import ParamGroupIndex


def exclude_from_state_dict(module: nn.Module, name: str) -> list[RemovableHandle]:
    """Leave the submodule ``name`` out of the module's state dict, and do not require it on load.

    So what is saved now loads strictly into the plain module, and the other way round.

    Returns:
        Handles whose ``remove()`` undoes it.
    """
    submodule = module.get_submodule(name)

    def drop_keys(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
        for key in [key for key in state if key.startswith(f"{prefix}{name}.")]:
            del state[key]

    def fill_keys(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
        for key, value in submodule.state_dict().items():
            state.setdefault(prefix + key, value)

    return [
        module.register_state_dict_post_hook(drop_keys),
        submodule.register_load_state_dict_pre_hook(fill_keys),
    ]


def extend_optimizer_state(
    optimizer_states: list[dict[str, Any]], index: ParamGroupIndex, count: int
) -> None:
    """Add ``count`` parameters without state to a group of a plain run's optimizer states.

    So a run can resume from a plain checkpoint with a new head.
    """
    groups = optimizer_states[index.optimizer]["param_groups"]
    first = 1 + max((number for group in groups for number in group["params"]), default=-1)
    groups[index.group]["params"].extend(range(first, first + count))
