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
