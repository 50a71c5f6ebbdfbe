"""The student: which part of a module SP trains, and which optimizer group its head joins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer

from sp_plugin import ConfigError
from sp_plugin.validation import did_you_mean

AUTO = "auto"
# Names of the student in lightly's examples and benchmarks, in solo-learn and in most scripts. A
# module with a student of one of these names has its EMA teacher under ``backbone``.
_STUDENT_NAMES = ("student_backbone", "anchor_backbone", "online_backbone", "student")
_BACKBONE_NAMES = ("backbone",)


class ParamGroupIndex(NamedTuple):
    """Index of an optimizer, and of a parameter group in it."""

    optimizer: int
    group: int


def find_student_name(module: nn.Module) -> str:
    """Name of the student in a module, by common names; never that of an EMA teacher.

    Raises:
        ConfigError: there is none, or more than one; the line names them.

    >>> parts = {"backbone": nn.Linear(2, 2), "student_backbone": nn.Linear(2, 2)}
    >>> find_student_name(nn.ModuleDict(parts))
    'student_backbone'
    """
    trained = [
        path
        for path, part in module.named_modules()
        if path and any(p.requires_grad for p in part.parameters())
    ]
    for names in (_STUDENT_NAMES, _BACKBONE_NAMES):
        matches = [path for path in trained if path.rpartition(".")[2] in names]
        outer = [path for path in matches if not any(path.startswith(f"{o}.") for o in matches)]
        if len(outer) == 1:
            return outer[0]
        if outer:
            raise ConfigError(
                f"backbone: got 'auto', and {type(module).__name__} has several that it may be: "
                f"{', '.join(outer)}; name one"
            )
    parts = [name for name, _ in module.named_children() if name in trained]
    raise ConfigError(
        f"backbone: got 'auto', which finds {', '.join((*_BACKBONE_NAMES, *_STUDENT_NAMES))}; "
        f"{type(module).__name__} trains {', '.join(parts) or 'nothing'}: name one of these"
    )


def find_backbone(module: nn.Module, name: str) -> nn.Module:
    """Submodule of that (dotted) name.

    Raises:
        ConfigError: there is none, with the nearest name; or none of its parameters is trained.
    """
    parts = {path: part for path, part in module.named_modules() if path}
    if name not in parts:
        near = [path for path in parts if path.count(".") <= name.count(".")]
        hint = did_you_mean(name, near or parts)
        raise ConfigError(f"backbone: {type(module).__name__} has no {name!r}; {hint}")
    backbone = parts[name]
    if not any(p.requires_grad for p in backbone.parameters()):
        raise _not_trained(module, name, [p for p in module.parameters() if p.requires_grad])
    return backbone


def add_to_param_group(
    module: nn.Module, name: str, head: nn.Module, configured: Any
) -> ParamGroupIndex:
    """Add the head's parameters to an optimizer group that trains the backbone.

    An existing group: a new one would break schedulers such as LambdaLR and OneCycle, which were
    built for a number of groups. Of the groups with backbone parameters it is the one with the
    most weight decay (LARS skips its trust ratio where there is none), then the highest learning
    rate (the last layer, where rates fall with depth).

    Args:
        module: LightningModule.
        name: name of the backbone in it.
        head: module whose parameters are added.
        configured: what ``configure_optimizers`` returned, in any of its forms.

    Returns:
        Index of the group.

    Raises:
        ConfigError: no parameter of the backbone is in any optimizer: an EMA teacher.
    """
    backbone_ids = {id(p) for p in module.get_submodule(name).parameters()}
    head_params = list(head.parameters())
    candidates: list[tuple[float, float, ParamGroupIndex, dict[str, Any]]] = []
    trained: list[Any] = []
    for i, optimizer in enumerate(optimizers_in(configured)):
        for j, group in enumerate(optimizer.param_groups):
            group_ids = {id(p) for p in group["params"]}
            if id(head_params[0]) in group_ids:  # ``self.parameters()`` included it
                return ParamGroupIndex(i, j)
            trained += group["params"]
            if group_ids & backbone_ids:
                decay, lr = float(group.get("weight_decay", 0)), float(group.get("lr", 0))
                candidates.append((decay, lr, ParamGroupIndex(i, j), group))
    if not candidates:
        raise _not_trained(module, name, trained)
    _, _, index, group = max(candidates, key=lambda candidate: candidate[:2])
    group["params"].extend(head_params)
    return index


def optimizers_in(configured: Any) -> Iterator[Optimizer]:
    """Every optimizer in what ``configure_optimizers`` may return, in Lightning's order."""
    if isinstance(configured, Optimizer):
        yield configured
    elif isinstance(configured, dict):
        yield from optimizers_in(configured.get("optimizer"))
    elif isinstance(configured, (list, tuple)):
        for item in configured:
            yield from optimizers_in(item)


def _not_trained(module: nn.Module, name: str, trained: list[Any]) -> ConfigError:
    trained_ids = {id(p) for p in trained}
    children = [
        path
        for path, child in module.named_children()
        if path not in ("sp", name) and any(id(p) in trained_ids for p in child.parameters())
    ]
    return ConfigError(
        f"backbone: {name!r} is not trained by any optimizer (an EMA teacher?); "
        f"trained are {', '.join(children) or 'no parts of the module'}"
    )
