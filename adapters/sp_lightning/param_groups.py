"""The optimizer groups that the parameters of SP's head join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from sp_lightning.student import is_trained, trained_twin, untrained_error
from sp_plugin import ConfigError
from sp_plugin.param_groups import best_group, holds_similar


class ParamGroupIndex(NamedTuple):
    """Index of an optimizer, and of a parameter group in it."""

    optimizer: int
    group: int


class _Group(NamedTuple):
    """A parameter group, with what a choice between groups depends on."""

    place: ParamGroupIndex
    optimizer: Any
    group: dict[str, Any]
    has_backbone: bool

    def takes(self, parameter: Tensor) -> bool:
        """Whether the optimizer can train it, as far as its name says."""
        name = type(self.optimizer).__name__.lower()
        if "muon" in name:  # has groups, or instances, for matrices alone
            return holds_similar(self.group, parameter)
        return name != "sparseadam"  # takes sparse gradients alone


def add_to_param_groups(
    module: nn.Module, name: str, head: nn.Module, configured: Any
) -> list[ParamGroupIndex]:
    """Add the head's parameters to optimizer groups that train the backbone.

    Existing groups: a new one would break schedulers such as LambdaLR and OneCycle, which were
    built for a number of groups. Weights join a group that holds weights, biases one that holds
    biases: of those with backbone parameters the one with the most weight decay (LARS skips its
    trust ratio where there is none), then the highest learning rate (the last layer, where rates
    fall with depth). If the backbone is frozen, so that no group has its parameters yet, the same
    holds for all groups.

    Args:
        module: LightningModule.
        name: name of the backbone in it.
        head: module whose parameters are added; those that a group has already stay there.
        configured: what ``configure_optimizers`` returned, in any of its forms.

    Returns:
        Index of the group of each of the head's parameters.

    Raises:
        ConfigError: no optimizer trains the backbone, or none can take the head.
    """
    backbone = module.get_submodule(name)
    backbone_ids = {id(p) for p in backbone.parameters()}
    groups = [
        _Group(ParamGroupIndex(i, j), optimizer, group, bool(backbone_ids & _ids(group)))
        for i, optimizer in enumerate(optimizers_in(configured))
        for j, group in enumerate(optimizer.param_groups)
    ]
    if not groups:
        if configured:  # of an unknown form, which Lightning refuses itself
            return []
        raise ConfigError(
            "configure_optimizers: got no optimizer, takes one that trains the backbone: SP's head "
            "joins it"
        )
    if not any(group.has_backbone for group in groups):
        _check_frozen(module, name, backbone, groups)
    places = []
    for parameter in head.parameters():
        # It is there already where ``self.parameters()`` included it.
        present = (group for group in groups if id(parameter) in _ids(group.group))
        group = next(present, None)
        if group is None:
            group = _choose(groups, parameter)
            _append(group, parameter)
        places.append(group.place)
    return places


def optimizers_in(configured: Any) -> Iterator[Any]:
    """Every optimizer in what ``configure_optimizers`` may return, in Lightning's order.

    Also those that are no `torch.optim.Optimizer` and act like one, as Lightning allows.
    """
    if hasattr(configured, "param_groups"):
        yield configured
    elif isinstance(configured, Mapping):
        yield from optimizers_in(configured.get("optimizer"))
    elif isinstance(configured, (list, tuple)):
        for item in configured:
            yield from optimizers_in(item)


def _ids(group: Mapping[str, Any]) -> set[int]:
    return {id(p) for p in group["params"]}


def _check_frozen(module: nn.Module, name: str, backbone: nn.Module, groups: list[_Group]) -> None:
    """That no optimizer has parameters of the backbone: allowed while it is frozen."""
    trained = set().union(*(_ids(group.group) for group in groups))
    if not trained & {id(p) for p in module.parameters()}:
        kind = type(groups[0].optimizer).__name__
        raise ConfigError(
            f"configure_optimizers: {kind} holds none of the module's own parameters (a wrapper "
            "with copies?); SP's head takes an optimizer that does"
        )
    if is_trained(backbone) or trained_twin(module, name, trained):
        raise untrained_error(module, name, trained)


def _choose(groups: list[_Group], parameter: Tensor) -> _Group:
    taking = [group for group in groups if group.takes(parameter)]
    backbone = [group for group in taking if group.has_backbone]
    if candidates := backbone or taking:
        best = best_group([candidate.group for candidate in candidates], parameter)
        return next(candidate for candidate in candidates if candidate.group is best)
    kinds = ", ".join(sorted({type(group.optimizer).__name__ for group in groups}))
    raise ConfigError(
        f"configure_optimizers: {kinds} cannot take SP's head, which has weights (2-D) and biases "
        "(1-D) with dense gradients; takes another optimizer or group for such parameters, such "
        "as AdamW"
    )


def _append(group: _Group, parameter: Tensor) -> None:
    optimizer = group.optimizer
    group.group["params"].append(parameter)
    if id(parameter) not in _ids(optimizer.param_groups[group.place.group]):
        raise ConfigError(
            f"configure_optimizers: {type(optimizer).__name__} makes its groups anew when they are "
            "read, so that SP's head cannot join one; takes an optimizer with lasting groups"
        )
    if any(p in optimizer.state for p in group.group["params"][:-1]):
        # Adagrad makes its state when it is built.
        options = {**group.group, "params": [parameter]}
        optimizer.state.update(type(optimizer)([options]).state)
