"""The contract in Hugging Face's Trainer: SP trains, weight 0 is the baseline, resume is exact."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

hf = pytest.importorskip(
    "transformers", reason="needs transformers (pip install sp-plugin[transformers])"
)

from framework_table import COLUMNS, HEADS, MATRIX  # noqa: E402
from hf_models import BATCH, MODELS, SP, STEPS, Images, make, state_of  # noqa: E402
from ranks import forget_accelerate, free_port  # noqa: E402

from sp_plugin import SPSession  # noqa: E402

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 2},
    "bf16": {"bf16": True},
}


SLOW = pytest.mark.slow
DEFAULT = [("mae", "accumulated")]
RUNS = [
    pytest.param(name, way, marks=() if (name, way) in DEFAULT else SLOW)
    for name in MODELS
    for way in WAYS
]


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def losses(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


PROBE = {"trainer_settings": {"sp_probe": True}}


def start_row(table: Any, name: str, way: str, *columns: str) -> None:
    """Start the row of a model in the table of frameworks, for these columns of it."""
    values = ("transformers", hf.__version__, f"Trainer, {name}, {way}")
    table(MATRIX, HEADS, values, COLUMNS, columns)


def run(folder: Path, name: str, sp: dict[str, Any] | None, **arguments: Any) -> Any:
    trainer = make(folder, MODELS[name](), sp, **arguments)
    trainer.train()
    return trainer


@pytest.mark.parametrize(("name", "way"), RUNS)
def test_weight_0_equals_the_baseline(name: str, way: str, table: Any, tmp_path: Path):
    start_row(table, name, way, "weight 0 equal")
    baseline = run(tmp_path, name, None, **WAYS[way])
    after = torch.get_rng_state()
    with_sp = run(tmp_path, name, {"weight": 0.0}, **WAYS[way])
    assert torch.equal(torch.get_rng_state(), after)
    assert equal(state_of(baseline.model), state_of(with_sp.model))
    assert losses(baseline) == losses(with_sp) and len(losses(baseline)) == STEPS


def test_probe_leaves_the_run_as_it_was(tmp_path: Path):
    baseline = run(tmp_path, "dinov2", None)
    after = torch.get_rng_state()
    probed = run(tmp_path, "dinov2", {"weight": 0.0}, **PROBE)
    assert torch.equal(torch.get_rng_state(), after)
    assert equal(state_of(baseline.model), state_of(probed.model))
    assert losses(baseline) == losses(probed)
    last = [line for line in probed.state.log_history if "loss" in line][-1]
    expected = {name: value.item() for name, value in probed.sp.probe.metrics().items()}
    assert expected and {name: last[name] for name in expected} == expected


def test_probe_resumes_exactly(tmp_path: Path):
    saving = {"save_strategy": "steps", "save_steps": 2, **PROBE}
    whole = run(tmp_path / "whole", "dinov2", {"weight": 1.0}, **saving)
    resumed = make(tmp_path / "resumed", MODELS["dinov2"](), {"weight": 1.0}, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert whole.sp.probe.step == resumed.sp.probe.step == STEPS
    assert whole.sp.probe.metrics() == resumed.sp.probe.metrics()


@pytest.mark.parametrize(("name", "way"), RUNS)
def test_sp_trains(name: str, way: str, table: Any, tmp_path: Path):
    start_row(table, name, way, "trains")
    baseline = run(tmp_path, name, None, **WAYS[way])
    trainer = run(tmp_path, name, {"weight": 1.0, "relative_weight": True}, **WAYS[way])
    fresh = make(tmp_path, MODELS[name](), {"weight": 1.0})
    fresh.create_optimizer()
    assert not equal(state_of(baseline.model), state_of(trainer.model))
    assert not equal(fresh.sp.sp.head.state_dict(), trainer.sp.sp.head.state_dict())
    assert trainer.sp.step == STEPS * WAYS[way].get("gradient_accumulation_steps", 1)
    logged = [line for line in trainer.state.log_history if "loss" in line]
    assert all(
        {"sp_loss", "sp_r2_dx", "sp_weight", "sp_skipped_fraction"} <= set(x) for x in logged
    )


def reseeding(name: str) -> Any:
    """A model that draws alike in each call, whatever a loop draws before it."""
    model = MODELS[name]().train()
    model.register_forward_pre_hook(lambda *_: torch.manual_seed(0) and None)
    return model


def by_hand(name: str, is_scaled: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights of model and head after training in a loop that is written out."""
    model = reseeding(name)
    sp = SPSession(getattr(model, "backbone", model), SP, weight=1.0)
    optimizer = torch.optim.SGD([*model.parameters(), *sp.parameters()], lr=0.1)
    batches = Images().images.split(BATCH)
    for step in range(STEPS):
        optimizer.zero_grad()
        for images in batches[2 * step : 2 * step + 2]:
            loss = model(pixel_values=images)["loss"] / (1 if is_scaled else 2)
            (loss + sp(images, progress=step / STEPS).loss / 2).backward()
        optimizer.step()
    return state_of(model), sp.sp.head.state_dict()


@pytest.mark.parametrize(
    ("name", "is_scaled"),
    [
        pytest.param("mae", False, marks=SLOW),
        pytest.param("mae", True, marks=SLOW),
        pytest.param("dinov2", False, marks=SLOW),
        ("dinov2", True),
    ],
)
def test_accumulation_equals_a_loop(name: str, is_scaled: bool, tmp_path: Path):
    model = reseeding(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    loss_of = (lambda outputs, labels, num_items_in_batch: outputs["loss"]) if is_scaled else None
    trainer = make(
        tmp_path, model, {"weight": 1.0}, gradient_accumulation_steps=2, max_grad_norm=0.0,
        trainer_settings={"optimizers": (optimizer, schedule), "compute_loss_func": loss_of},
    )  # fmt: skip
    trainer.train()
    states = state_of(model), trainer.sp.sp.head.state_dict()
    for state, expected in zip(states, by_hand(name, is_scaled), strict=True):
        for key, value in expected.items():
            torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["mae", pytest.param("dinov2", marks=SLOW)])
def test_resume_equals_uninterrupted(name: str, table: Any, tmp_path: Path):
    start_row(table, name, "plain", "resume equal", "checkpoint clean")
    sp = {"weight": 1.0, "relative_weight": True}
    saving = {"save_strategy": "steps", "save_steps": 2}
    whole = run(tmp_path / "whole", name, sp, **saving)
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    torch.manual_seed(123)
    # Under the names that the library gives them in a file it does not find ViTMAE's weights when
    # it resumes, with or without SP; loaded before, they stay.
    model = MODELS[name]()
    if name == "mae":
        loaded = hf.ViTMAEForPreTraining.from_pretrained(checkpoint)
        model.load_state_dict(loaded.state_dict())
    resumed = make(tmp_path / "resumed", model, sp, **saving)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert equal(state_of(whole.model), state_of(resumed.model))
    assert equal(whole.sp.sp.state_dict(), resumed.sp.sp.state_dict())
    assert resumed.sp.step == whole.sp.step == STEPS
    check_clean(checkpoint, name)


def check_clean(checkpoint: Path, name: str) -> None:
    """The weights of a checkpoint are those of the model alone."""
    from safetensors.torch import load_file

    model = MODELS[name]()
    if name == "mae":  # under the library's own names for a file
        model.save_pretrained(checkpoint / "plain")
        expected = load_file(checkpoint / "plain" / "model.safetensors").keys()
    else:
        expected = model.state_dict().keys()
    assert load_file(checkpoint / "model.safetensors").keys() == expected


def train_rank(rank: int, port: str, folder: Path, name: str, weight: float | None) -> None:
    forget_accelerate()
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), LOCAL_RANK=str(rank),
        WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    torch.set_num_threads(1)
    sp = None if weight is None else {"weight": weight, "relative_weight": True}
    trainer = make(
        folder, MODELS[name](), sp, gradient_accumulation_steps=2, ddp_backend="gloo", max_steps=3
    )
    trainer.train()
    assert distributed.get_world_size() == 2
    state = {"model": state_of(trainer.model), "head": {}}
    if trainer.args.world_size == 2 and sp is not None:
        state["head"] = trainer.sp.sp.state_dict()
    torch.save(state, folder / f"{name}-{weight}-{rank}.pt")
    distributed.destroy_process_group()


def train_on_two_ranks(folder: Path, name: str, weight: float | None) -> list[dict[str, Any]]:
    arguments = (free_port(), folder, name, weight)
    multiprocessing.start_processes(train_rank, arguments, nprocs=2, start_method="fork")
    return [torch.load(folder / f"{name}-{weight}-{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_two_ranks_train_alike(name: str, tmp_path: Path):
    one, other = train_on_two_ranks(tmp_path, name, 1.0)
    assert one["head"] and equal(one["model"], other["model"]) and equal(one["head"], other["head"])
    baseline, _ = train_on_two_ranks(tmp_path, name, None)
    weight_0, _ = train_on_two_ranks(tmp_path, name, 0.0)
    assert equal(baseline["model"], weight_0["model"])
    assert not equal(baseline["model"], one["model"])
