"""SP acts while the Trainer trains, and in no other stage."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from image_datasets import Images, TwoCrops
from sp_lightning import SpatialProbeCallback, SPCallback
from torch.utils.data import DataLoader

from sp_plugin import SPTransform


class OneStep:
    """Every stage of the host calls ``training_step``."""

    def validation_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return self._again("val_loss", batch, batch_idx)

    def test_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return self._again("test_loss", batch, batch_idx)

    def predict_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return self.training_step(batch=batch, batch_idx=batch_idx)

    def _again(self: Any, name: str, batch: Any, batch_idx: int) -> Any:
        assert isinstance(batch[0], list)  # the host's own batch in every stage
        loss = self.training_step(batch, batch_idx)
        self.log(name, loss)
        return loss


def new_host(kit: Any) -> Any:
    kit.pl.seed_everything(0)
    return type("Host", (OneStep, kit.hosts["two_views"]), {})()


def loader(dataset: Any) -> Any:
    return DataLoader(dataset, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("source", "wraps_itself"),
    (("view", False), ("image", False), ("image", True), ("host_views", False)),
)
def test_other_stages_are_the_baseline(kit: Any, source: str, wraps_itself: bool) -> None:
    """One data set object for all stages; by the user's choice with an SPTransform in it."""
    results = []
    for callbacks in ([], [SPCallback(source=source, weight=0)]):
        host = new_host(kit)
        transform = SPTransform(TwoCrops()) if wraps_itself and callbacks else None
        data = Images(transform or TwoCrops())
        options = {"max_epochs": 2, "num_sanity_val_steps": 1, "limit_train_batches": 2}
        trainer = kit.trainer(*callbacks, **options)
        trainer.fit(host, loader(data), loader(data))
        seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not wraps_itself:  # without fit the callback does not touch the batch
            for stage in ("validate", "test"):
                seen.update(getattr(trainer, stage)(host, loader(data), verbose=False)[0])
            seen["prediction"] = float(trainer.predict(host, loader(data))[0])
        results.append({name: value for name, value in seen.items() if "sp_" not in name})
        assert all(not name.startswith("val_sp") for name in seen)
        if callbacks:
            assert callbacks[0].step == 4
            assert len([name for name in seen if name.startswith("train_sp")]) == 6
    assert results[0] == results[1] and "val_loss" in results[0]


def test_validated_checkpoint_is_forgotten(kit: Any, tmp_path: Any, caplog: Any) -> None:
    """Lightning 2.6 restores callbacks to validate too; the next fit starts as without it."""
    path, data = tmp_path / "sp.ckpt", loader(Images(TwoCrops()))

    def make() -> tuple[Any, Any]:
        callback, probe = SPCallback(weight=1, warmup_fraction=0), SpatialProbeCallback(every=1)
        return kit.trainer(callback, probe, max_epochs=1, limit_train_batches=2), callback

    trainer, callback = make()
    host = new_host(kit)
    trainer.fit(host, data)
    trainer.save_checkpoint(path)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(host, data)
    trainer.validate(host, data, ckpt_path=path, verbose=False)
    assert callback.step == 4  # of the newest fit, as before
    trainer, callback = make()
    trainer.validate(new_host(kit), data, ckpt_path=path, verbose=False)
    wide = new_host(kit)
    wide.backbone.append(torch.nn.Linear(16, 24))
    wide.projector = torch.nn.Linear(24, 8)
    trainer.fit(wide, data)
    (probe,) = (c.probe for c in trainer.callbacks if hasattr(c, "every"))
    assert callback.step == probe.step == 2
    trainer = kit.trainer(max_epochs=1, limit_train_batches=1)
    trainer.fit(host, data)
    trainer.save_checkpoint(path)
    kit.trainer(SPCallback()).validate(host, data, ckpt_path=path, verbose=False)
    assert "starts anew" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("tuner_method", ("lr_find", "scale_batch_size", "validate"))
def test_tuner_leaves_no_trace(kit: Any, tuner_method: str, tmp_path: Any) -> None:
    """Its runs do not count: the step and the head are as before."""
    host, callback = new_host(kit), SPCallback(source="image", warmup_fraction=0)
    host.learning_rate, host.batch_size, data = 0.1, 2, Images(TwoCrops())
    host.train_dataloader = lambda: DataLoader(data, host.batch_size)
    host.val_dataloader = lambda: DataLoader(data, host.batch_size)
    trainer = kit.trainer(callback, max_epochs=1, default_root_dir=tmp_path)
    tuner = importlib.import_module(f"{kit.package}.tuner").Tuner(trainer)
    if tuner_method == "lr_find":
        tuner.lr_find(host, num_training=3, update_attr=True)
    else:
        method = "validate" if tuner_method == "validate" else "fit"
        tuner.scale_batch_size(host, method=method, max_trials=1, steps_per_trial=1)
    assert callback.step == 0 and "sp" not in host._modules
    trainer.fit(host)
    assert callback.step == trainer.num_training_batches
