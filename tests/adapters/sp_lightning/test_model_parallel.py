"""ModelParallelStrategy, which wraps no module: the student is sharded, SP's head is averaged."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import free_port
from sp_lightning import SPCallback
from torch import distributed, multiprocessing

from sp_plugin import ConfigError

fsdp = pytest.importorskip("torch.distributed.fsdp")
pytestmark = pytest.mark.skipif(
    not hasattr(fsdp, "fully_shard"), reason="needs fully_shard (torch>=2.6)"
)


def fit_rank(rank: int, port: str, kit: Any, folder: Path, data: int, clip: float | None) -> None:
    """Fit on one of two ranks, and save the weights at the end; or the error's line.

    Args:
        rank: of this process.
        port: for all of them.
        kit: of the Lightning package.
        folder: for the files, one of each rank.
        data: number of ranks with data of their own; the others share a batch.
        clip: norm to clip gradients to.
    """
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2}
    ranks |= {"LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ["TORCHELASTIC_RUN_ID"] = "test"  # or Lightning starts processes of its own
    torch.set_num_threads(1)

    class Host(kit.hosts["two_views"]):
        def configure_model(self) -> None:
            for part in (self.backbone, self.projector):
                fsdp.fully_shard(part, mesh=self.device_mesh["data_parallel"])

    strategy = find_strategy(kit)(data, 2 // data, process_group_backend="gloo")
    callback = SPCallback(weight=1, warmup_fraction=0)
    kit.pl.seed_everything(0)
    module = Host()
    try:
        kit.fit(module, callback, devices=2, strategy=strategy, gradient_clip_val=clip)
    except ConfigError as error:
        torch.save(str(error), folder / f"{rank}.pt")
        return
    whole = {name: value.full_tensor() for name, value in module.named_parameters()}
    torch.save({**whole, **callback.sp.head.state_dict()}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def find_strategy(kit: Any) -> Any:
    package = importlib.import_module(f"{kit.package}.strategies")
    return getattr(package, "ModelParallelStrategy", None)


def fit(kit: Any, folder: Path, data: int, clip: float | None = None) -> list[Any]:
    if find_strategy(kit) is None:
        pytest.skip(f"{kit.package} has no ModelParallelStrategy (2.4 and later)")
    arguments = (free_port(), kit, folder, data, clip)
    multiprocessing.start_processes(fit_rank, arguments, nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("data", (1, 2), ids=("shared batch", "own batches"))
def test_ranks_stay_equal(kit: Any, data: int, tmp_path: Path) -> None:
    one, other = fit(kit, tmp_path, data)
    assert kit.same(one, other)


def test_whole_head_is_not_clipped(kit: Any, tmp_path: Path) -> None:
    lines = fit(kit, tmp_path, 2, clip=0.1)
    assert lines[0] == lines[1] and lines[0].startswith("gradient_clip_val: got 0.1 with Model")
