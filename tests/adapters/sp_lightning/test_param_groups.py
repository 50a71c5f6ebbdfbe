"""SP's head joins groups of any optimizer that can train it, or one line says why it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sp_lightning.param_groups import add_to_param_groups
from torch import Tensor, nn

from sp_plugin import ConfigError

OPTIMIZERS = [
    name
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name != "Optimizer"
]


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4))
        self.projector = nn.Linear(4, 2)


def head() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3))


def split(part: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters with two dimensions, and all others."""
    parameters = list(part.parameters())
    return [p for p in parameters if p.ndim == 2], [p for p in parameters if p.ndim != 2]


def join(configured: Any, module: nn.Module | None = None) -> tuple[nn.Module, list[Any]]:
    new = head()
    return new, add_to_param_groups(module or Module(), "backbone", new, configured)


def check_trains(parameters: list[Tensor], *optimizers: Any) -> None:
    """All of them move in two steps."""
    before = [p.detach().clone() for p in parameters]

    def closure() -> Tensor:
        loss = torch.stack([(p - 3).square().sum() for p in parameters]).sum()
        loss.backward()
        return loss

    for _ in range(2):
        for optimizer in optimizers:
            optimizer.zero_grad()
            optimizer.step(closure)
    assert all(not torch.equal(p, old) for p, old in zip(parameters, before, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_head_trains_with_every_optimizer(name: str) -> None:
    module, cls = Module(), getattr(torch.optim, name)
    if name in ("Muon", "SparseAdam"):
        parts = split(module)[0] if name == "Muon" else list(module.parameters())
        with pytest.raises(ConfigError, match=f"^configure_optimizers: {name} cannot take SP's"):
            join(cls(parts), module)
        other = torch.optim.AdamW(split(module)[1], lr=0.1)
        configured = [cls(split(module)[0]), other]
        new, _ = join(configured, module)
        check_trains([*new.parameters(), *other.param_groups[0]["params"]], *configured)
        return
    optimizer = cls(module.parameters(), **({} if name == "Adafactor" else {"lr": 0.1}))
    new, places = join(optimizer, module)
    assert set(places) == {(0, 0)}
    check_trains([*new.parameters(), *module.parameters()], optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    check_trains(list(new.parameters()), optimizer)


def test_one_optimizer_with_groups_for_muon() -> None:
    class MuonWithAuxAdam(torch.optim.SGD):
        """As in Muon's own repository: flagged groups take matrices alone."""

        def step(self, closure: Any = None) -> Any:
            assert all(p.ndim == 2 for p in self.param_groups[0]["params"])
            return super().step(closure)

    module = Module()
    matrices, others = split(module)
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others}]
    new, _ = join(optimizer := MuonWithAuxAdam(groups, lr=0.1), module)
    check_trains(list(new.parameters()), optimizer)


@pytest.mark.parametrize("name", ("lr", "lr_scale", "lr_multiplier"))
def test_layer_wise_decay_joins_last_layer(name: str) -> None:
    module = Module()
    groups = [
        {"params": layer.parameters(), "lr": 0.1, "weight_decay": 0.05, name: 0.1 * 0.5 ** (3 - i)}
        for i, layer in enumerate(module.backbone)
    ]
    groups.append({"params": module.projector.parameters(), "lr": 0.1, "weight_decay": 0.05})
    _, places = join(torch.optim.AdamW(groups), module)
    assert set(places) == {(0, 2)}


def test_second_optimizer_has_the_backbone() -> None:
    module = Module()
    first = torch.optim.SGD(module.projector.parameters(), lr=0.1)
    second = torch.optim.Adagrad(module.backbone.parameters(), lr=0.1)
    new, places = join([first, {"optimizer": second}], module)
    assert {place.optimizer for place in places} == {1}
    check_trains(list(new.parameters()), second)


class Wrapper:
    """No `torch.optim.Optimizer`, but one that Lightning takes."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.defaults, self.state = optimizer.defaults, optimizer.state

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


def test_wrapper_that_is_no_optimizer() -> None:
    module = Module()
    new, _ = join(wrapper := Wrapper(torch.optim.SGD(module.parameters(), lr=0.1)), module)
    check_trains(list(new.parameters()), wrapper)


class WrapperWithCopies(Wrapper):
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        copies = [p.detach().clone() for p in optimizer.param_groups[0]["params"]]
        super().__init__(torch.optim.SGD(copies, lr=0.1))


class WrapperWithNewGroups(Wrapper):
    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [{**group, "params": [*group["params"]]} for group in self.optimizer.param_groups]


@pytest.mark.parametrize(
    ("configure", "says"),
    [
        (lambda module: None, "got no optimizer, takes one that trains the backbone"),
        (lambda module: [], "got no optimizer, takes one that trains the backbone"),
        (
            lambda module: WrapperWithCopies(torch.optim.SGD(module.parameters())),
            "WrapperWithCopies holds none of the module's own parameters",
        ),
        (
            lambda module: WrapperWithNewGroups(torch.optim.SGD(module.parameters())),
            "WrapperWithNewGroups makes its groups anew",
        ),
        (
            lambda module: torch.optim.SGD(module.projector.parameters()),
            "'backbone' is not trained by any optimizer; trained are projector",
        ),
    ],
)
def test_refusals_name_their_own_cause(configure: Any, says: str) -> None:
    module = Module()
    with pytest.raises(ConfigError) as error:
        join(configure(module), module)
    assert says in str(error.value) and "EMA" not in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_form_is_left_to_lightning() -> None:
    assert join("adam")[1] == []


def test_frozen_backbone_is_waited_for() -> None:
    module = Module()
    module.backbone.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    new, places = join(optimizer, module)
    assert set(places) == {(0, 0)}
    check_trains(list(new.parameters()), optimizer)
