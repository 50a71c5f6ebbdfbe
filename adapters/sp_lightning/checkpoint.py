"""Checkpoints: the module's state is that of a plain run; SP's state is the callback's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from sp_lightning.param_groups import ParamGroupIndex


def exclude_from_state_dict(submodule: nn.Module) -> list[RemovableHandle]:
    """Leave a submodule out of the state dict of its parent, and do not require it on load.

    So what is saved now loads strictly into the plain module, and the other way round. The
    submodule's own state dict is as before.

    Returns:
        Handles whose ``remove()`` undoes it.
    """
    return [
        submodule.register_state_dict_post_hook(_drop_keys),
        submodule.register_load_state_dict_pre_hook(_fill_keys),
    ]


# Functions of the module, not closures: copies of a submodule keep them.
def _drop_keys(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
    for key in [key for key in state if prefix and key.startswith(prefix)]:
        del state[key]


def _fill_keys(submodule: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key, value in submodule.state_dict().items():
        state.setdefault(prefix + key, value)


def extend_optimizer_state(
    optimizer_states: list[dict[str, Any]], indices: Iterable[ParamGroupIndex]
) -> None:
    """Add parameters without state to groups of a plain run's optimizer states.

    So a run can resume from a plain checkpoint with a new head. States of other optimizers or
    other groups than the run has stay as they are, and the framework says what does not fit.

    Args:
        optimizer_states: as in a checkpoint; changes in place.
        indices: the group that each of the new parameters has joined.
    """
    for (optimizer, group), count in Counter(indices).items():
        try:
            groups = optimizer_states[optimizer]["param_groups"]
            numbers = groups[group]["params"]
        except (IndexError, KeyError, TypeError):
            return
        first = 1 + max((number for group in groups for number in group["params"]), default=-1)
        numbers.extend(range(first, first + count))
