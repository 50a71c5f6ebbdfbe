"""A student that is built, replaced or frozen after the module was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sp_lightning import SPCallback
from torch import nn

from sp_plugin import ConfigError


def narrow() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def wide() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 24, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def host_that_builds(kit: Any, hook: str, exists: bool, build: Any) -> Any:
    """The host of two views, whose ``hook`` sets its backbone (and a projector that fits)."""
    base = kit.hosts["two_views"]

    def set_backbone(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.kept is not None:
            (self.backbone, self.projector), self.kept = self.kept, None
        return getattr(base, hook)(self, *args, **kwargs)

    kit.pl.seed_everything(0)
    module = type("Later", (base,), {hook: set_backbone})()
    student = build()
    module.kept = (student, nn.Linear(24 if build is wide else 16, 8))
    if not exists:
        module.backbone = None
    return module


@pytest.mark.parametrize("build", (narrow, wide))
@pytest.mark.parametrize(
    ("hook", "exists"),
    (
        ("setup", False), ("setup", True), ("configure_model", False), ("configure_model", True),
        ("configure_optimizers", True),
    ),
)  # fmt: skip
def test_student_of_a_hook(kit: Any, hook: str, exists: bool, build: Any, tmp_path: Any) -> None:
    states = []
    for callbacks in ([], [SPCallback(weight=0)], [SPCallback(weight=1, warmup_fraction=0)]):
        module = host_that_builds(kit, hook, exists, build)
        trainer = kit.fit(module, *callbacks, max_epochs=1)
        states.append(kit.state(module))
    assert kit.same(states[0], states[1]) and not kit.same(states[0], states[2])
    assert callbacks[0].step == 2 and "sp" not in module._modules
    assert callbacks[0].sp.feature_dim == (24 if build is wide else 16)
    if build is wide or (exists and hook != "setup"):
        return  # Lightning may load a checkpoint before, into a student of the wrong width
    # And resumes: the state of the head comes back, whenever Lightning loads it.
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = SPCallback(weight=1)
    kit.fit(
        host_that_builds(kit, hook, exists, build), again, ckpt_path=tmp_path / "last.ckpt",
        max_epochs=1,
    )  # fmt: skip
    assert kit.same(again.sp.state_dict(), callbacks[0].sp.state_dict()) and again.step == 2


def test_replaced_too_late_is_one_line(kit: Any) -> None:
    module = host_that_builds(kit, "on_fit_start", True, wide)
    with pytest.raises(ConfigError, match="backbone: gives features of width 24") as error:
        kit.fit(module, SPCallback())
    assert "\n" not in str(error.value) and "sp" not in module._modules


@pytest.mark.parametrize("resumed", (False, True))
@pytest.mark.parametrize("order", (0, 1))
def test_backbone_finetuning(kit: Any, order: int, resumed: bool, tmp_path: Path) -> None:
    """Frozen by a callback at first: SP acts once it is unfrozen, from a plain checkpoint too."""

    class Finetune(kit.pl.callbacks.BaseFinetuning):
        def freeze_before_training(self, pl_module: Any) -> None:
            self.freeze(pl_module.backbone)

        def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
            if epoch == 1:
                self.unfreeze_and_add_param_group(pl_module.backbone, optimizer, lr=0.01)

    class Host(kit.hosts["two_views"]):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.01)

    checkpoint = tmp_path / "plain.ckpt" if resumed else None
    if checkpoint:
        kit.fit(Host(), Finetune(), max_epochs=1).save_checkpoint(checkpoint)
    states = []
    for weight in (None, 0, 1):
        kit.pl.seed_everything(0)
        module = Host()
        callbacks: list[Any] = [Finetune()]
        if weight is not None:
            sp = SPCallback(weight=weight, warmup_fraction=0, relative_weight=False)
            callbacks.insert(order, sp)
        trainer = kit.fit(module, *callbacks, max_epochs=2, ckpt_path=checkpoint)
        states.append(kit.state(module))
        trained = trainer.optimizers[0].param_groups
        if weight is not None:
            ids = [id(p) for group in trained for p in group["params"]]
            assert {id(p) for p in sp.sp.head.parameters()} <= set(ids) and len(ids) == len({*ids})
    assert kit.same(states[0], states[1]) and not kit.same(states[0], states[2])


def test_frozen_by_the_module_is_named(kit: Any, caplog: Any) -> None:
    module = kit.new("two_views")
    module.backbone.requires_grad_(False)
    with pytest.raises(ConfigError, match="'backbone' of TwoViews is frozen; name it, if"):
        kit.fit(module, SPCallback())
    kit.fit(module, SPCallback("backbone"), max_epochs=1)
    assert "'backbone' is frozen; SP does not act on it until it is unfrozen" in caplog.text
