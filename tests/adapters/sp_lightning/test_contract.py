"""The contract that every adapter passes: weight 0 is the baseline, SP trains, nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sp_lightning import SPCallback

from sp_plugin import SpatialPrediction

HOSTS = (
    "two_views", "many_views", "multi_crop", "nested", "masked", "teacher", "queue", "manual",
)  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"gradient_clip_val": 0.01},
    "accumulated": {"accumulate_grad_batches": 2},
    "bf16": {"precision": "bf16-mixed"},
}


def final_state(kit: Any, host: str, *callbacks: Any, **options: Any) -> dict[str, torch.Tensor]:
    module = kit.new(host)
    kit.fit(module, *callbacks, **options)
    return kit.state(module)


@pytest.mark.parametrize("host", HOSTS)
def test_weight_0_equals_baseline(kit: Any, host: str) -> None:
    name = kit.hosts[host].name
    baseline = final_state(kit, host)
    assert not kit.same(baseline, kit.state(kit.new(host))), "the baseline itself does not train"
    for crops in (2, 4):
        assert kit.same(
            final_state(kit, host, SPCallback(name, weight=0, num_crops=crops)), baseline
        )


@pytest.mark.parametrize("host", HOSTS)
def test_sp_trains_backbone_and_head(kit: Any, host: str) -> None:
    name = kit.hosts[host].name
    callback = SPCallback(name, weight=1, warmup_fraction=0)
    trained = final_state(kit, host, callback)
    baseline = final_state(kit, host)
    moved = [key for key in baseline if not torch.equal(baseline[key], trained[key])]
    assert any(key.startswith(f"{name}.") for key in moved)
    fresh = SpatialPrediction(callback.sp.feature_dim, callback.sp.user_config)
    for key, value in fresh.head.state_dict().items():
        assert not torch.equal(value, callback.sp.head.state_dict()[key]), f"{key} did not move"


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_keep_weight_0_baseline(kit: Any, options: dict[str, Any]) -> None:
    baseline = final_state(kit, "two_views", **options)
    assert kit.same(final_state(kit, "two_views", SPCallback(weight=0), **options), baseline)


def test_only_the_gradient_differs(kit: Any) -> None:
    """At any weight the host draws the same numbers, and SP's crops leave its buffers alone."""

    def run(*callbacks: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        module = kit.new("two_views")
        kit.fit(module, *callbacks, max_epochs=1, limit_train_batches=1)
        return torch.get_rng_state(), dict(module.named_buffers())

    rng, buffers = run()
    rng_sp, buffers_sp = run(SPCallback(weight=1, warmup_fraction=0))
    assert torch.equal(rng, rng_sp)
    assert kit.same(buffers, buffers_sp)
    _, moved = run(SPCallback(weight=1, warmup_fraction=0, update_bn=True))
    assert not kit.same(buffers, moved)


@pytest.mark.usefixtures("feature")
@pytest.mark.parametrize(
    ("host", "more"),
    (
        ("two_views", {}),
        ("two_views", {"num_crops": 4, "num_pairs": 2}),
        ("teacher", {}),
        ("masked", {}),
    ),
)
def test_resumed_run_equals_uninterrupted(
    kit: Any, host: str, more: dict[str, Any], tmp_path: Any
) -> None:
    def callback() -> SPCallback:
        return SPCallback(
            kit.hosts[host].name, weight=1, warmup_fraction=0, max_iou=(1.0, 0.1), **more
        )

    def run(module: Any, *more: Any, **options: Any) -> Any:
        return kit.fit(module, kit.reseed(), *more, **options)

    whole = kit.new(host)
    whole_sp = callback()
    run(whole, whole_sp, max_epochs=2)

    kill = kit.kill_after_epoch(tmp_path / "half.ckpt")
    with pytest.raises(KeyError):
        run(kit.new(host), callback(), kill, max_epochs=2)
    resumed, resumed_sp = kit.new(host), callback()
    run(resumed, resumed_sp, max_epochs=2, ckpt_path=tmp_path / "half.ckpt")
    assert kit.same(kit.state(resumed), kit.state(whole))
    assert kit.same(resumed_sp.sp.state_dict(), whole_sp.sp.state_dict())


@pytest.mark.usefixtures("feature")
def test_sp_checkpoint_loads_in_plain_module(kit: Any, tmp_path: Any) -> None:
    module = kit.new("two_views")
    trainer = kit.fit(module, SPCallback(weight=1))
    trainer.save_checkpoint(tmp_path / "sp.ckpt")
    saved = torch.load(tmp_path / "sp.ckpt", weights_only=True)
    plain = kit.new("two_views")
    plain.load_state_dict(saved["state_dict"], strict=True)
    assert kit.same(kit.state(plain), kit.state(module))
    assert kit.same(
        type(plain).load_from_checkpoint(tmp_path / "sp.ckpt").state_dict(), kit.state(module)
    )


@pytest.mark.usefixtures("feature")
def test_plain_checkpoint_resumes_with_sp(kit: Any, tmp_path: Any, caplog: Any) -> None:
    host = kit.new("teacher")
    kit.fit(host, max_epochs=1).save_checkpoint(tmp_path / "plain.ckpt")
    before = kit.state(host)
    module, callback = kit.new("teacher"), SPCallback("student", weight=1, warmup_fraction=0)
    kit.fit(module, callback, max_epochs=2, ckpt_path=tmp_path / "plain.ckpt")
    assert "starts anew" in caplog.text
    assert not kit.same(kit.state(module), before)
    resumed = kit.new("teacher")
    kit.fit(resumed, SPCallback("student", weight=0), ckpt_path=tmp_path / "plain.ckpt")
    baseline = kit.new("teacher")
    kit.fit(baseline, ckpt_path=tmp_path / "plain.ckpt")
    assert kit.same(kit.state(resumed), kit.state(baseline))


@pytest.mark.usefixtures("feature")
@pytest.mark.parametrize("weight", (0, 1))
def test_ddp_ranks_stay_in_sync(kit: Any, weight: float, tmp_path: Any) -> None:
    """DDP without unused parameters: weight 0 is the baseline; at 1 the ranks stay in step."""

    def run(*callbacks: Any) -> dict[str, torch.Tensor]:
        module = kit.new("two_views")
        kit.fit(module, *callbacks, devices=2, strategy="ddp_fork", use_distributed_sampler=True)
        return kit.state(module)

    class Keep(kit.pl.Callback):
        """Final state of each rank, saved by its process."""

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            sp = pl_module.sp
            state = {"head": sp.head.state_dict(), "state": pl_module.state_dict()}
            torch.save(state, tmp_path / f"{trainer.global_rank}.pt")

    trained = run(SPCallback(weight=weight, warmup_fraction=0), Keep())
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    parameters = [key for key in first["state"] if "running" not in key]
    assert all(torch.equal(first["state"][key], second["state"][key]) for key in parameters)
    assert kit.same(first["head"], second["head"])
    assert kit.same(run(), trained) is (weight == 0)


@pytest.mark.parametrize("change", ("groups", "optimizers"))
def test_changed_groups_raise_as_without_sp(kit: Any, change: str, tmp_path: Any) -> None:
    """A plain checkpoint that does not fit raises what it raises without SP."""
    kit.fit(kit.new("teacher"), max_epochs=1).save_checkpoint(tmp_path / "plain.ckpt")
    checkpoint = torch.load(tmp_path / "plain.ckpt", weights_only=False)
    if change == "groups":
        del checkpoint["optimizer_states"][0]["param_groups"][0]
    else:
        checkpoint["optimizer_states"] = []
    torch.save(checkpoint, tmp_path / "plain.ckpt")
    messages = []
    for callbacks in ([], [SPCallback("student", weight=0)]):
        try:
            kit.fit(kit.new("teacher"), *callbacks, ckpt_path=tmp_path / "plain.ckpt")
            messages.append("")
        except Exception as error:
            messages.append(f"{type(error).__name__}: {error}")
    assert messages[0] == messages[1]
    assert change != "groups" or "parameter group" in messages[0]
