"""SpatialProbeCallback: the run is that without it, bit for bit, and its metrics are logged."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import sp_lightning
import torch
from sp_lightning import SpatialProbeCallback, SPCallback

from sp_plugin import ConfigError
from sp_plugin.isolation import rng_fingerprint

METRICS = {
    f"train_spatial_probe_{name}"
    for name in ("r2_dx", "r2_dy", "r2_scale", "rankme", "feature_std")
}
slow = pytest.mark.slow
HOSTS = (
    "two_views",
    *(pytest.param(n, marks=slow) for n in ("teacher", "masked", "manual", "nested")),
)
OPTIONS: dict[str, dict[str, Any]] = {
    "clipped": {"gradient_clip_val": 0.01},
    "accumulated": {"accumulate_grad_batches": 2},
    "bf16": {"precision": "bf16-mixed"},
}


def make_callback(**settings: Any) -> Any:
    return SpatialProbeCallback(**{"every": 1, "fraction": 1, **settings})


def fitted(kit: Any, host: str, *callbacks: Any, **options: Any) -> tuple[Any, Any]:
    module = kit.new(host)
    return module, kit.fit(module, *callbacks, **options)


def assert_same_run(kit: Any, one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    """Weights, buffers, gradients and optimizers of two fitted modules, bit for bit."""
    assert kit.same(kit.state(one[0]), kit.state(other[0]))
    states = [[o.state_dict() for o in trainer.optimizers] for _, trainer in (one, other)]
    gradients = [[p.grad for p in module.parameters()] for module, _ in (one, other)]
    torch.testing.assert_close(
        [*states[0], gradients[0]], [*states[1], gradients[1]], rtol=0, atol=0
    )


@pytest.mark.parametrize("host", HOSTS)
def test_run_is_the_same_with_a_probe(kit: Any, host: str) -> None:
    runs, generators = [], []
    for callbacks in ([], [make_callback()]):
        runs.append(fitted(kit, host, *callbacks))
        generators.append(rng_fingerprint())
    assert_same_run(kit, *runs)
    assert generators[0] == generators[1]
    plain, probed = (module for module, _ in runs)
    names = [name for name, _ in plain.named_modules()]
    assert [name for name, _ in probed.named_modules()] == names
    assert runs[1][1].callback_metrics.keys() >= METRICS


@slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_keep_the_run_the_same(kit: Any, options: dict[str, Any]) -> None:
    plain = fitted(kit, "two_views", **options)
    assert_same_run(kit, fitted(kit, "two_views", make_callback(), **options), plain)


def test_own_logs_stay_the_same(kit: Any) -> None:
    class Logs(kit.hosts["two_views"]):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

    def logged(*callbacks: Any) -> dict[str, torch.Tensor]:
        kit.pl.seed_everything(0)
        return dict(kit.fit(Logs(), *callbacks).callback_metrics)

    plain, probed = logged(), logged(make_callback())
    assert probed.keys() - plain.keys() == METRICS
    assert all(torch.equal(plain[name], probed[name]) for name in plain)
    assert all(probed[name].isfinite() for name in METRICS)


@pytest.mark.parametrize("with_sp", [False, pytest.param(True, marks=slow)], ids=["alone", "in_sp"])
def test_resumed_probe_equals_uninterrupted(kit: Any, with_sp: bool, tmp_path: Any) -> None:
    def run(*more: Any, **options: Any) -> tuple[dict[str, torch.Tensor], Any]:
        callback = SPCallback(probe=True) if with_sp else make_callback(every=2)
        trainer = kit.fit(kit.new("two_views"), callback, kit.reseed(), *more, **options)
        probe = callback.session.probe if with_sp else callback.probe
        return dict(trainer.callback_metrics), probe.state_dict()

    whole = run()
    with pytest.raises(KeyError):
        run(kit.kill_after_epoch(tmp_path / "half.ckpt"))
    resumed = run(ckpt_path=tmp_path / "half.ckpt")
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0, equal_nan=True)
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    plain = kit.new("two_views").state_dict()
    assert saved["state_dict"].keys() == plain.keys()


def test_probe_next_to_sp_changes_nothing(kit: Any) -> None:
    settings = {"weight": 1, "warmup_fraction": 0}
    alone = fitted(kit, "two_views", SPCallback(**settings))
    for callbacks in (
        [SPCallback(**settings), make_callback()],
        [SPCallback(probe=True, **settings)],
    ):
        both = fitted(kit, "two_views", *callbacks)
        assert kit.same(kit.state(both[0]), kit.state(alone[0]))
        assert METRICS | {"train_sp_loss"} <= both[1].callback_metrics.keys()


@slow
def test_weight_0_with_probe_is_baseline(kit: Any) -> None:
    plain, probed = (
        fitted(kit, "two_views", *more)[0] for more in ([], [SPCallback(weight=0, probe=True)])
    )
    assert kit.same(kit.state(plain), kit.state(probed))


def test_backbone_is_found_or_refused(kit: Any) -> None:
    callback = make_callback()
    module, _ = fitted(kit, "teacher", callback, max_epochs=1)
    assert callback.probe.backbone is module.student
    with pytest.raises(ConfigError, match=r"^backbone: 'backbone' is not trained by any optim"):
        fitted(kit, "teacher", make_callback(backbone="backbone"), max_epochs=1)


def test_callback_is_copied_without_backbone(kit: Any) -> None:
    callback = make_callback()
    fitted(kit, "two_views", callback, max_epochs=1)
    for other in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert type(other) is type(callback) and other.probe.backbone is None
        assert isinstance(other, kit.pl.Callback)


def test_settings_are_in_the_signature() -> None:
    parameters = inspect.signature(SpatialProbeCallback).parameters
    assert list(parameters) == ["backbone", "config", "feature_fn", "fraction", "every"]
    assert "probe" in inspect.signature(SPCallback).parameters


@pytest.mark.parametrize("name", ["SPCallback", "SpatialProbeCallback"])
def test_classes_are_found_by_their_names(kit: Any, name: str) -> None:
    prefix = {"pytorch_lightning": "PytorchLightning"}.get(kit.package, "Lightning")
    cls = getattr(sp_lightning, f"{prefix}{name}")
    assert issubclass(cls, kit.pl.Callback) and cls.__qualname__ == f"{prefix}{name}"
    with pytest.raises(AttributeError):
        getattr(sp_lightning, f"Other{name}")


@slow
def test_two_ranks_stay_the_same(kit: Any, tmp_path: Any) -> None:
    options = {"devices": 2, "strategy": "ddp_fork", "use_distributed_sampler": True}
    plain = fitted(kit, "two_views", **options)[0]
    assert kit.same(
        kit.state(fitted(kit, "two_views", make_callback(), **options)[0]), kit.state(plain)
    )
