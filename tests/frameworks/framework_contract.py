"""The contract of SP in a framework that stands on Lightning, checked with its own modules.

SP trains; with weight 0 a run ends in the baseline's state; a resumed run ends in the state of an
uninterrupted one; a checkpoint has the baseline's keys.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from code_blocks import block
from framework_table import same
from sp_lightning import SPCallback
from torch import Tensor

from sp_plugin import SpatialPrediction

EPOCHS = 2


@dataclass
class Host:
    """A run of a framework.

    Attributes:
        module: function that builds its module, from a generator that was seeded.
        loader: function that builds the training loader, or a data module.
        callbacks: function from the module to the framework's own callbacks.
        settings: those of SPCallback.
        options: those of the Trainer.
    """

    module: Callable[[], Any]
    loader: Callable[[], Any]
    callbacks: Callable[[Any], Sequence[Any]] = lambda module: ()
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def new(self) -> Any:
        """A module with the same weights each time."""
        torch.manual_seed(0)
        return self.module()

    def fit(self, module: Any, *callbacks: Any, ckpt_path: Path | None = None) -> Any:
        """Train a module for two epochs, and give the trainer."""
        quiet = {
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
        }
        every = [*self.callbacks(module), _Reseed(), *callbacks]
        trainer = pl.Trainer(
            **{"accelerator": "cpu", "max_epochs": EPOCHS, **quiet, **self.options},
            callbacks=every,
        )
        data = self.loader()
        kind = "datamodule" if isinstance(data, pl.LightningDataModule) else "train_dataloaders"
        trainer.fit(module, **{kind: data}, ckpt_path=ckpt_path, weights_only=False)
        return trainer

    def resume(self, path: Path, *make_callbacks: Callable[[], Any]) -> tuple[Any, ...]:
        """Train for one epoch, resume from its checkpoint, and give the module and callbacks."""
        with contextlib.suppress(KeyError):
            self.fit(self.new(), *(make() for make in make_callbacks), _Stop(path))
        module, callbacks = self.new(), [make() for make in make_callbacks]
        self.fit(module, *callbacks, ckpt_path=path)
        return module, *callbacks

    def sp(self, **settings: Any) -> SPCallback:
        return SPCallback(**{"warmup_fraction": 0, **self.settings, **settings})


def check_contract(host: Host, cell: Callable[[str, str], None], folder: Path) -> SPCallback:
    """Check all of it.

    Args:
        host: the run.
        cell: from the fixture ``table``; fills in what was checked.
        folder: for the checkpoint.

    Returns:
        The callback of the run that trained.
    """
    baseline = host.new()
    host.fit(baseline)
    with_sp, callback = host.new(), host.sp()
    trainer = host.fit(with_sp, callback)
    assert_trained(host, callback, trainer)
    assert not same(state(with_sp), state(baseline)), "SP does not act on the module"
    cell("trains", "yes")

    off = host.new()
    host.fit(off, host.sp(weight=0))
    assert same(state(off), state(baseline))
    cell("weight 0 equal", "yes")

    resumed, resumed_sp = host.resume(folder / "sp.ckpt", host.sp)
    assert callback.sp is not None and resumed_sp.sp is not None
    is_equal = same(state(resumed), state(with_sp))
    if not is_equal:  # nor is the baseline's, which keeps some of its state in no checkpoint
        (plain,) = host.resume(folder / "plain.ckpt")
        assert not same(state(plain), state(baseline))
    else:
        assert same(resumed_sp.sp.state_dict(), callback.sp.state_dict())
    cell("resume equal", "yes" if is_equal else "nor is the baseline's")

    saved = torch.load(folder / "sp.ckpt", weights_only=False)["state_dict"]
    assert saved.keys() == baseline.state_dict().keys()
    host.new().load_state_dict(saved, strict=True)
    cell("checkpoint clean", "yes")
    return callback


def run_page_block(page: str, words: str, monkeypatch: Any, **names: Any) -> Any:
    """Run a block of a page with a Trainer that makes one step, and give that Trainer."""
    small = functools.partial(pl.Trainer, fast_dev_run=True, accelerator="cpu", logger=False)
    monkeypatch.setattr(pl, "Trainer", small)
    exec(block(page, words).text, names)
    trainer = names["trainer"]
    assert any(key.startswith("train_sp") for key in trainer.callback_metrics)
    return trainer


def assert_trained(host: Host, callback: SPCallback, trainer: Any) -> None:
    """That SP's loss was logged, pairs counted, and the head moved in every part."""
    metrics = trainer.callback_metrics
    assert 0 < float(metrics["train_sp_loss"]) < 10
    assert float(metrics["train_sp_skipped_fraction"]) < 1
    assert callback.sp is not None
    fresh = SpatialPrediction(callback.sp.feature_dim, callback.sp.user_config)
    moved = callback.sp.head.state_dict()
    still = [
        key for key, value in fresh.head.state_dict().items() if torch.equal(value, moved[key])
    ]
    assert not still, f"the head's {still} did not move"


def state(module: Any) -> dict[str, Tensor]:
    """A copy of a module's weights and buffers."""
    return {name: value.clone() for name, value in module.state_dict().items()}


class _Reseed(pl.Callback):
    """What the host itself draws must not depend on where the run was cut."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        torch.manual_seed(trainer.current_epoch)


class _Stop(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint(self.path)
        raise KeyError("killed")
