"""After any error the module, its data set and its loader are as before, and can be used again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from image_datasets import Images
from sp_lightning import SPCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms as T

from sp_plugin import ConfigError


def raises(*_: Any, **__: Any) -> Any:
    raise KeyError("a fault of the host's own")


def turn(image: Tensor) -> list[Tensor]:
    turned = T.functional.resize(T.functional.rotate(image, 30), [32, 32])
    return [turned, turned]


def set_hook(name: str, value: Any = raises) -> Callable[[Any], None]:
    return lambda module: setattr(module, name, value)


def nothing(module: Any) -> None:
    """Change nothing."""


def freeze(module: Any) -> None:
    module.backbone.requires_grad_(False)


def rename(module: Any) -> None:
    module.features = module.backbone
    del module.backbone


@dataclasses.dataclass
class Case:
    """A fit that fails: settings, and a change of the host or its data set before."""

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    change: Callable[[Any], Any] = nothing
    data: Callable[[], Any] = Images
    error: type[BaseException] = ConfigError


CASES = {
    "no such student": Case({"backbone": "backbon"}),
    "no student of a common name": Case(change=rename),
    "frozen": Case(change=freeze),
    "no optimizer": Case(change=set_hook("configure_optimizers", lambda: None)),
    "another optimizer": Case(
        change=lambda module: setattr(
            module,
            "configure_optimizers",
            lambda: torch.optim.SGD(module.projector.parameters(), lr=0.1),
        )
    ),
    "name in use": Case(change=set_hook("sp", nn.Linear(1, 1))),
    "no such layer": Case({"layer": "layer9"}),
    "no crops": Case({"source": "image"}, data=lambda: list(Images())),
    "no boxes": Case({"source": "host_views"}, data=lambda: Images(turn)),
    "transform fails": Case({"source": "image"}, data=lambda: Images(raises), error=KeyError),
    "setup fails": Case(change=set_hook("setup"), error=KeyError),
    "configure_optimizers fails": Case(change=set_hook("configure_optimizers"), error=KeyError),
    "step fails": Case({"source": "host_views"}, set_hook("training_step"), error=KeyError),
    "interrupted": Case(
        {"source": "image"},
        lambda module: setattr(module, "on_train_batch_end", interrupt),
        error=BaseException,
    ),
}


def interrupt(*_: Any) -> None:
    raise SystemExit


def snapshot(item: Any, depth: int = 3) -> Any:
    """Attributes of an object and of the parts in it: which objects they are."""
    state = getattr(item, "__dict__", None)
    if state is None or depth == 0:
        return id(item)
    # What Lightning itself sets on a module that it fits.
    own = {key: value for key, value in state.items() if key not in ("_trainer", "_fabric")}
    return {
        key: [snapshot(part, depth - 1) for part in value.values()]
        if isinstance(value, dict)
        else snapshot(value, depth - 1)
        for key, value in own.items()
        if "hook" in key or not key.startswith("_") or key in ("_modules", "_parameters")
    }


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_patched(kit: Any, name: str) -> None:
    case, module = CASES[name], kit.new("two_views")
    data = case.data()
    loader = DataLoader(data, 4)
    kit.trainer(max_epochs=1, limit_train_batches=0).fit(module, loader)  # Lightning's own marks
    case.change(module)
    before = [snapshot(item) for item in (module, data, loader)]
    keys, init = list(module.state_dict()), DataLoader.__init__
    with pytest.raises(case.error) as error:
        kit.trainer(SPCallback(**case.settings), max_epochs=1).fit(module, loader)
    if case.error is ConfigError:
        assert "\n" not in str(error.value)
    assert [snapshot(item) for item in (module, data, loader)] == before
    assert list(module.state_dict()) == keys
    assert DataLoader.__init__ is init  # Lightning patches it while it reads the loaders
    assert not vars(module).keys() & {"__getstate__", "manual_backward", "configure_model"}
