"""The student: which part of the module SP trains, and which optimizer group its head joins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer

from sp_plugin import ConfigError
from sp_plugin.validation import did_you_mean

AUTO = "auto"
# The student's name in lightly's examples and benchmarks, in solo-learn and in most scripts. A
# module with a student of another name keeps its EMA teacher under ``backbone``.
_STUDENTS = ("student_backbone", "anchor_backbone", "online_backbone", "student")
_BACKBONES = ("backbone",)


class ParamGroupIndex(NamedTuple):
    """Where a parameter group stands: which optimizer, and which group of it."""

    optimizer: int
    group: int


def find_student_name(module: nn.Module) -> str:
    """Name of the student in a module, by the names in use; never of an EMA teacher.

    Raises:
        ConfigError: there is none, or more than one; the line names them.

    >>> host = nn.ModuleDict({"backbone": nn.Linear(2, 2), "student_backbone": nn.Linear(2, 2)})
    >>> find_student_name(host)
    'student_backbone'
    """
    trained = [
        path
        for path, part in module.named_modules()
        if path and any(p.requires_grad for p in part.parameters())
    ]
    for names in (_STUDENTS, _BACKBONES):
        found = [path for path in trained if path.rpartition(".")[2] in names]
        outer = [path for path in found if not any(path.startswith(f"{o}.") for o in found)]
        if len(outer) == 1:
            return outer[0]
        if outer:
            raise ConfigError(
                f"backbone: got 'auto', and {type(module).__name__} has several that it may be: "
                f"{', '.join(outer)}; name one"
            )
    parts = [name for name, _ in module.named_children() if name in trained]
    raise ConfigError(
        f"backbone: got 'auto', which finds {', '.join((*_BACKBONES, *_STUDENTS))}; "
        f"{type(module).__name__} trains {', '.join(parts) or 'nothing'}: name one of these"
    )


def find_backbone(module: nn.Module, name: str) -> nn.Module:
    """The submodule of that (dotted) name.

    Raises:
        ConfigError: there is none, with the nearest name; or nothing in it is trained.
    """
    parts = {path: part for path, part in module.named_modules() if path}
    if name not in parts:
        near = [path for path in parts if path.count(".") <= name.count(".")]
        raise ConfigError(
            f"backbone: {type(module).__name__} has no {name!r}; {did_you_mean(name, near or parts)}"
        )
    backbone = parts[name]
    if not any(p.requires_grad for p in backbone.parameters()):
        raise _not_trained(module, name, [p for p in module.parameters() if p.requires_grad])
    return backbone


def add_to_param_group(
    module: nn.Module, name: str, head: nn.Module, configured: Any
) -> ParamGroupIndex:
    """Let the head's parameters be trained with the backbone's.

    They join an existing group: a new one would break schedulers such as LambdaLR and OneCycle,
    which were made for a number of groups. Of the groups with backbone parameters it is the one
    with the most weight decay (LARS skips its trust ratio where there is none), then the highest
    learning rate (the last layer, where rates fall with depth).

    Args:
        module: the LightningModule.
        name: of the backbone in it.
        head: whose parameters join.
        configured: what ``configure_optimizers`` returned, in any of its forms.

    Returns:
        The group that the head is in.

    Raises:
        ConfigError: no parameter of the backbone is in any optimizer: an EMA teacher.
    """
    backbone = {id(p) for p in module.get_submodule(name).parameters()}
    wanted = list(head.parameters())
    found: list[tuple[float, float, ParamGroupIndex, dict[str, Any]]] = []
    trained: list[Any] = []
    for i, optimizer in enumerate(optimizers_in(configured)):
        for j, group in enumerate(optimizer.param_groups):
            members = {id(p) for p in group["params"]}
            if id(wanted[0]) in members:  # ``self.parameters()`` had it already
                return ParamGroupIndex(i, j)
            trained += group["params"]
            if members & backbone:
                decay, rate = float(group.get("weight_decay", 0)), float(group.get("lr", 0))
                found.append((decay, rate, ParamGroupIndex(i, j), group))
    if not found:
        raise _not_trained(module, name, trained)
    _, _, where, group = max(found, key=lambda entry: entry[:2])
    group["params"].extend(wanted)
    return where


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
    known = {id(p) for p in trained}
    children = [
        path
        for path, child in module.named_children()
        if path not in ("sp", name) and any(id(p) in known for p in child.parameters())
    ]
    return ConfigError(
        f"backbone: {name!r} is not trained by any optimizer (an EMA teacher?); "
        f"trained are {', '.join(children) or 'no parts of the module'}"
    )
