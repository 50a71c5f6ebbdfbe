"""Weight averaging works in any order of callbacks, also with SP from ``configure_callbacks``."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from sp_lightning import SPCallback
from torch.optim.swa_utils import AveragedModel

ORDERS = ("before", "after", "configure_callbacks")


def fit_in_order(kit: Any, host: Any, averaging: Any, order: str, **options: Any) -> SPCallback:
    callback = SPCallback(weight=1, warmup_fraction=0)
    callbacks = [averaging]
    if order == "configure_callbacks":
        host.configure_callbacks = lambda: [callback]
    else:
        callbacks.insert(0 if order == "before" else 1, callback)
    kit.fit(host, *callbacks, **options)
    return callback


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ("EMAWeightAveraging", "StochasticWeightAveraging"))
def test_any_order_of_callbacks(kit: Any, name: str, order: str, tmp_path: Any) -> None:
    if not hasattr(kit.pl.callbacks, name):
        pytest.skip(f"this Lightning has no {name}")
    cls = getattr(kit.pl.callbacks, name)

    class Save(kit.pl.Callback):
        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / "last.ckpt")

    def averaging() -> Any:
        return cls(decay=0.5) if "EMA" in name else cls(swa_lrs=0.01, swa_epoch_start=1)

    host, plain = kit.new("two_views"), kit.new("two_views")
    host.configure_callbacks = lambda: []
    host.validation_step = lambda batch, batch_idx: None
    average = averaging()
    callback = fit_in_order(kit, host, average, order, max_epochs=2, limit_train_batches=1)
    # Stochastic averaging goes through the data once more, for the statistics of BatchNorm.
    assert callback.step == (2 if "EMA" in name else 3) and "sp" not in host._modules
    assert all(value.isfinite().all() for value in host.state_dict().values())
    copies = [value for value in vars(average).values() if isinstance(value, torch.nn.Module)]
    assert copies and not any("sp." in key for one in copies for key in one.state_dict())
    if name == "StochasticWeightAveraging":
        return  # its last checkpoint is of one epoch more
    # A checkpoint of it resumes, and holds what one without SP does.
    host = kit.new("two_views")
    callback = SPCallback(weight=1)
    kit.fit(host, averaging(), callback, Save(), max_epochs=1, limit_train_batches=1)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert saved["state_dict"].keys() == plain.state_dict().keys()
    kit.fit(plain, averaging(), resumed := SPCallback(weight=1), ckpt_path=tmp_path / "last.ckpt")
    assert resumed.step > callback.step == 1


@pytest.mark.parametrize("hook", ("on_fit_start", "on_train_start", "on_train_epoch_start"))
def test_copies_that_a_callback_makes_later(kit: Any, hook: str) -> None:
    """Parameters and buffers are paired by their order, as torch's AveragedModel does."""

    class Averaging(kit.pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.average.update_parameters(pl_module)

    def begin(self: Any, trainer: Any, pl_module: Any) -> None:
        self.average = AveragedModel(pl_module, use_buffers=True)

    setattr(Averaging, hook, begin)
    host, average = kit.new("two_views"), Averaging()
    kit.fit(host, average, SPCallback(weight=1), max_epochs=1)
    assert int(average.average.n_averaged) == 2
    assert list(average.average.module.state_dict()) == list(host.state_dict())


def test_copy_is_a_plain_module(kit: Any) -> None:
    copies = []

    class Copy(kit.pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            copies.append(copy.deepcopy(pl_module))

    host = kit.new("two_views")
    kit.fit(host, SPCallback(weight=1), Copy(), max_epochs=1)
    assert "training_step" not in vars(copies[-1]) and "sp" not in copies[-1]._modules
    assert kit.same(copies[-1].state_dict(), kit.state(host))
    kit.fit(copies[-1], SPCallback(weight=1), max_epochs=1)


def freeze_copy(base: type) -> Any:
    """A callback whose frozen copy of the module follows it."""

    def setup(self: Any, trainer: Any, pl_module: Any, stage: str) -> None:
        self.average = copy.deepcopy(pl_module)

    def on_fit_start(self: Any, *_: Any) -> None:
        self.average.requires_grad_(False).eval()

    return type("FrozenCopy", (base,), {"setup": setup, "on_fit_start": on_fit_start})()


def freeze_parts(pl_module: Any, hook: str) -> None:
    """Make a module freeze all that it trains, but the backbone and the projector."""
    original = getattr(pl_module, hook)

    def call(*args: Any) -> Any:
        output = original(*args)
        pl_module.requires_grad_(False)
        pl_module.backbone.requires_grad_(True)
        pl_module.projector.requires_grad_(True)
        return output

    setattr(pl_module, hook, call)


@pytest.mark.parametrize("is_relative", (True, False), ids=("relative", "plain"))
@pytest.mark.parametrize("by", ("copy", "on_fit_start", "training_step"))
def test_frozen_head_trains_again(kit: Any, by: str, is_relative: bool) -> None:
    states, callbacks = [], []
    for weight in (None, 0, 1):
        host = kit.new("two_views")
        more = [freeze_copy(kit.pl.Callback)] if by == "copy" else []
        if by != "copy":
            freeze_parts(host, by)
        if weight is not None:
            sp = {"weight": weight, "relative_weight": is_relative, "warmup_fraction": 0}
            callbacks.append(SPCallback(**sp))
        kit.fit(host, *more, *callbacks[-1:])
        states.append(kit.state(host))
    assert kit.same(states[0], states[1]) and not kit.same(states[0], states[2])
    fresh, trained = (callback.sp.head.state_dict() for callback in callbacks)
    assert all(not torch.equal(fresh[name], trained[name]) for name in fresh)


def test_head_is_trainable_for_ddp(kit: Any) -> None:
    """It wraps the module before ``on_fit_start``, and leaves frozen parameters out."""
    seen = []

    class Look(kit.pl.Callback):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            seen.extend(p.requires_grad for p in pl_module.sp.head.parameters())

    module, callback = kit.new("two_views"), SPCallback(weight=1)
    kit.fit(module, callback, max_epochs=1)
    callback.sp.requires_grad_(False)
    kit.fit(module, callback, Look(), max_epochs=1)
    assert seen and all(seen)
