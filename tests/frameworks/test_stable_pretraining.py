"""stable-pretraining: its methods unedited, with SPCallback; in an environment of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

spt = pytest.importorskip(
    "stable_pretraining", reason="needs stable-pretraining: make framework-matrix"
)
import spt_methods  # noqa: E402
from framework_contract import check_contract, run_page_block, same, state  # noqa: E402
from framework_table import COLUMNS, HEADS, MATRIX  # noqa: E402
from stable_pretraining import methods  # noqa: E402
from torchmetrics.classification import MulticlassAccuracy  # noqa: E402

from sp_plugin import ConfigError  # noqa: E402


def test_every_method_is_here() -> None:
    assert set(spt_methods.METHODS) == set(methods.__all__)


@pytest.mark.parametrize("name", sorted(set(spt_methods.METHODS) - {"NEPA"}))
def test_method(name: str, table: Any, tmp_path: Path) -> None:
    cell = table(MATRIX, HEADS, ("stable-pretraining", spt.__version__, name), COLUMNS)
    callback = check_contract(spt_methods.host(name), cell, tmp_path)
    layout = callback.sp and callback.sp.layout
    assert layout is not None and layout.is_masked == (name == "MAE")
    assert layout.calls_module == (name in ("IJEPA", "MAE", "SALT"))


def test_module_that_is_its_backbone() -> None:
    run = spt_methods.host("NEPA")
    with pytest.raises(ConfigError, match="it trains patch_embed, blocks, norm: name one"):
        run.fit(run.new(), run.sp())


@pytest.mark.parametrize("name", ("SimCLR", "DINO", "BYOL", "LeJEPA", "MAE"))
def test_crops_of_dict_samples(name: str, table: Any, tmp_path: Path) -> None:
    case = f"{name}, image"
    cell = table(MATRIX, HEADS, ("stable-pretraining", spt.__version__, case), COLUMNS)
    check_contract(spt_methods.host(name, source="image"), cell, tmp_path)


@pytest.mark.parametrize("name", ("SimCLR", "DINO", "BYOL", "LeJEPA"))
def test_host_views_of_dict_samples(name: str, table: Any, tmp_path: Path) -> None:
    case = f"{name}, host_views"
    cell = table(MATRIX, HEADS, ("stable-pretraining", spt.__version__, case), COLUMNS)
    check_contract(spt_methods.host(name, source="host_views"), cell, tmp_path)


def test_probe_and_rank_next_to_sp() -> None:
    """Callbacks of the framework train and measure as they do without SP."""

    def run(*callbacks: Any) -> tuple[Any, dict[str, Any]]:
        host = spt_methods.host("SimCLR")
        module = host.new()
        probe = spt.callbacks.OnlineProbe(
            module, name="probe", input="embedding", target="label", probe=nn.Linear(24, 2),
            loss=nn.CrossEntropyLoss(), optimizer={"type": "SGD", "lr": 0.1},
            metrics=MulticlassAccuracy(2),
        )  # fmt: skip
        rank = spt.callbacks.RankMe("rank", "embedding", 8, 24)
        trainer = host.fit(module, probe, rank, *callbacks)
        return trainer, state(module)

    callback = spt_methods.host("SimCLR").sp()
    trainer, on = run(callback)
    _, baseline = run()
    _, off = run(spt_methods.host("SimCLR").sp(weight=0))
    assert same(off, baseline) and not same(on, baseline)
    assert any("probe" in key for key in on) and callback.step == 4
    assert sum(len(o.param_groups) for o in trainer.optimizers) >= 2


@pytest.mark.parametrize("source", ("view", "image", "host_views"))
def test_views_made_on_the_device(source: str, caplog: Any) -> None:
    from stable_pretraining.data import gpu_transforms, transforms

    chain = gpu_transforms.GPUCompose(
        [
            gpu_transforms.GPURandomResizedCrop(size=32, scale=(0.2, 1.0)),
            gpu_transforms.GPUNormalize(mean=[0.5] * 3, std=[0.05] * 3),
        ],
        compile=False,
    )

    def loader() -> Any:
        data = spt_methods.Images(transforms.Compose(transforms.ToImage()))
        data.gpu_transform = gpu_transforms.StackedMultiView(chain, n_views=2)
        return torch.utils.data.DataLoader(data, spt_methods.BATCH)

    run = spt_methods.host("SimCLR", source=source)
    run.loader = loader
    if source == "host_views":
        with pytest.raises(ConfigError, match="take 'view' or 'image'"):
            run.fit(run.new(), run.sp())
        return
    trainer = run.fit(run.new(), run.sp())
    assert float(trainer.callback_metrics["train_sp_skipped_fraction"]) < 1
    assert ("put the method's Normalize into" in caplog.text) == (source == "image")


def test_page_example_runs(monkeypatch: Any) -> None:
    run = spt_methods.host("SimCLR")
    page, names = "docs/stable-pretraining.md", {"module": run.new(), "data": run.loader()}
    run_page_block(page, "trainer.fit", monkeypatch, **names)
