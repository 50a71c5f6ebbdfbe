"""Loaders of every kind bring SP's crops, from workers of every kind, and to training alone."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from image_datasets import Images, TwoCrops
from sp_lightning import SPCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate, random_split

PACKAGES = ("pytorch_lightning", "lightning.pytorch")


def host_class(package: str) -> Any:
    pl = importlib.import_module(package)

    class Host(pl.LightningModule):
        """Its loader's workers get it whole, as a part of ``collate_fn``."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.projector, self.seen = nn.Linear(4, 4), []

        def collate(self, samples: list[Any]) -> Any:
            return default_collate(samples)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            views, _ = batch[0] if isinstance(batch[0][0], list) else batch
            self.seen.append([views])
            first, second = (self.projector(self.backbone(view)) for view in views)
            return (first - second).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Host


# Of this module, so that a process that is spawned finds them.
for _index, _package in enumerate(PACKAGES):
    _host = host_class(_package)
    _host.__qualname__ = f"Host{_index}"
    globals()[_host.__qualname__] = _host


def new_host(kit: Any) -> Any:
    kit.pl.seed_everything(0)
    return globals()[f"Host{PACKAGES.index(kit.package)}"]()


def check(kit: Any, data: Any, loaders: Any, host: Any = None, **options: Any) -> SPCallback:
    """SP gets crops, the host its own batch, and the data set stays as it is."""
    host, before = host or new_host(kit), data.transform
    callback = SPCallback(source="image")
    callback_sees: list[Any] = []

    class Look(kit.pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            callback_sees.append((data.transform, data[0]))

    kit.trainer(callback, Look(), max_epochs=1, **options).fit(host, loaders)
    assert callback.step > 0 and len(host.seen) == callback.step
    assert all(see[0] is before and type(see[1][0]) is list for see in callback_sees)
    assert data.transform is before and type(data[0][0]) is list
    return callback


def test_probe_shares_the_data_set(kit: Any) -> None:
    train, probe = random_split(data := Images(), (8, 8))
    host, probe_loader = new_host(kit), DataLoader(probe, 8)

    def validation_step(batch: Any, batch_idx: int) -> None:
        assert type(batch[0]) is list
        assert type(next(iter(probe_loader))[0]) is list  # an online probe's own loader

    host.validation_step = validation_step
    callback = SPCallback(source="image")
    kit.trainer(callback, max_epochs=1).fit(host, DataLoader(train, 4), probe_loader)
    assert callback.step == 2 and type(data.transform) is TwoCrops
    assert type(train.dataset) is type(probe.dataset) is Images


@pytest.mark.parametrize("kind", ("list", "dict", "combined"))
def test_collections_of_loaders(kit: Any, kind: str) -> None:
    data = Images()
    loaders: Any = [DataLoader(data, 4), DataLoader(data, 4)]
    host = new_host(kit)
    if kind == "dict":
        loaders = dict(zip("ab", loaders, strict=True))
        host.on_before_batch_transfer = lambda batch, _: [batch["a"], batch["b"]]
    if kind == "combined":
        utilities = importlib.import_module(f"{kit.package}.utilities")
        loaders = utilities.CombinedLoader(loaders, "min_size")
    check(kit, data, loaders, host)


@pytest.mark.parametrize("through", ("fit", "hook"))
def test_loader_that_lightning_builds_anew(kit: Any, through: str) -> None:
    """As for a distributed sampler; ``overfit_batches`` does the same in one process."""
    host, data = new_host(kit), Images()
    if through == "hook":
        host.train_dataloader = lambda: DataLoader(data, batch_size=4, shuffle=True)
    loader = None if through == "hook" else DataLoader(data, 4, shuffle=True)
    check(kit, data, loader, host, overfit_batches=2)


def test_workers_that_were_started_before(kit: Any) -> None:
    loader = DataLoader(data := Images(), 8, num_workers=1, persistent_workers=True)
    assert all(type(batch[0]) is list for batch in loader)
    check(kit, data, loader)
    assert all(type(batch[0]) is list for batch in loader)


@pytest.mark.parametrize("source", ("view", "image", "host_views"))
def test_module_in_training_pickles_as_plain(kit: Any, source: str) -> None:
    pickled = []

    class Pickle(kit.pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            pl_module.seen = []
            pickled.append(pickle.dumps(pl_module))

    host, plain = new_host(kit), new_host(kit)
    callback = SPCallback(source=source, feature_fn=None if source == "host_views" else encode)
    callback.announce = lambda line: None  # a part of SP that does not pickle
    kit.trainer(callback, Pickle(), max_epochs=1).fit(host, DataLoader(Images(), 8))
    again = pickle.loads(pickled[-1])
    assert list(again._modules) == list(plain._modules)
    assert not {"training_step", "setup", "__getstate__"} & vars(again).keys()
    assert kit.same(again.state_dict(), kit.state(host))


def encode(backbone: nn.Module, crops: Tensor) -> Tensor:
    return backbone(crops)


def fit_with_workers(package: str, source: str, method: str) -> None:
    pl = importlib.import_module(package)
    host, data = globals()[f"Host{PACKAGES.index(package)}"](), Images()
    loader = DataLoader(
        data, 8, num_workers=1, multiprocessing_context=method, collate_fn=host.collate
    )
    callback = SPCallback(source=source, warmup_fraction=0)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(host, loader)
    assert callback.step == 4 and type(data.transform) is TwoCrops
    assert len(host.seen) == 4 and all(type(batch[0]) is list for batch in host.seen)


@pytest.mark.parametrize("source", ("view", "image", "host_views"))
def test_workers_that_are_forked(kit: Any, source: str) -> None:
    fit_with_workers(kit.package, source, "fork")


@pytest.mark.slow
@pytest.mark.parametrize("method", ("spawn", "forkserver"))
@pytest.mark.parametrize("source", ("view", "image", "host_views"))
def test_workers_that_are_spawned(kit: Any, source: str, method: str) -> None:
    """As a script, whose workers can import what is defined here."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # folders of the tests too
    subprocess.run([sys.executable, __file__, kit.package, source, method], check=True, env=found)


if __name__ == "__main__":
    fit_with_workers(*sys.argv[1:])
