"""Manual optimization: SP's loss joins the backward pass that trains the student."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sp_lightning import SPCallback
from torch import Tensor, nn

from sp_plugin import SpatialPrediction

ORDERS = ("ps", "sp", "pps")  # of the backward passes of a step: probe, ssl


def make_host(kit: Any, orders: tuple[str, ...], toggles: bool = False, **steps: Any) -> Any:
    """Manual optimization: one optimizer for the method, one for an online probe.

    Args:
        kit: of the Lightning package.
        orders: for each step in turn the backward passes; empty: the step is skipped.
        toggles: whether the parameters of the other optimizer are frozen meanwhile.
        **steps: functions of the module and the batch, instead of those below.
    """

    class Host(kit.hosts["two_views"]):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.probe = nn.Linear(16, 4)

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for name in orders[batch_idx % len(orders)]:
                steps.get(name, getattr(self, name, None))(self, batch)

        def configure_optimizers(self) -> Any:
            parts = (self.backbone, self.projector)
            trained = [p for part in parts for p in part.parameters()]
            return [
                torch.optim.SGD(trained, lr=0.05), torch.optim.SGD(self.probe.parameters(), lr=0.05)
            ]  # fmt: skip

    def ssl(self: Any, batch: Any) -> None:
        step_with(self, 0, lambda: super(Host, self).training_step(batch, 0))

    def probe(self: Any, batch: Any) -> None:
        features = self.backbone(batch[0][0]).detach()
        step_with(self, 1, lambda: self.probe(features).square().mean())

    def step_with(self: Any, index: int, loss: Any) -> None:
        optimizer = self.optimizers()[index]
        if toggles:
            self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        self.manual_backward(loss())
        optimizer.step()
        if toggles:
            self.untoggle_optimizer(optimizer)

    steps = {"s": ssl, "p": probe, **steps}
    kit.pl.seed_everything(0)
    return Host()


def fit_weights(
    kit: Any, *args: Any, relative: bool = False, **host: Any
) -> tuple[list[dict[str, Tensor]], SPCallback]:
    """Final states without SP, with weight 0 and with SP, and the callback of the last."""
    states = []
    for weight in (None, 0, 1):
        module = make_host(kit, *args, **host)
        callback = SPCallback(weight=weight or 0, warmup_fraction=0, relative_weight=relative)
        kit.fit(module, *([] if weight is None else [callback]))
        states.append(kit.state(module))
    return states, callback


def is_head_trained(callback: SPCallback) -> bool:
    fresh = SpatialPrediction(callback.sp.feature_dim, callback.sp.user_config)
    pairs = zip(fresh.head.parameters(), callback.sp.head.parameters(), strict=True)
    return all(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("toggles", (False, True), ids=("plain", "toggled"))
@pytest.mark.parametrize("order", ORDERS)
def test_sp_trains_in_any_order_of_steps(kit: Any, order: str, toggles: bool) -> None:
    (baseline, weight_0, with_sp), callback = fit_weights(kit, (order,), toggles)
    assert kit.same(baseline, weight_0)
    assert not torch.equal(baseline["backbone.0.weight"], with_sp["backbone.0.weight"])
    assert is_head_trained(callback) and callback.step == 4


def test_steps_of_the_probe_alone_are_plain(kit: Any, caplog: Any) -> None:
    (baseline, weight_0, with_sp), callback = fit_weights(kit, ("s", "p"))
    assert kit.same(baseline, weight_0) and not kit.same(baseline, with_sp)
    assert callback.step == 2 and "manual_backward" not in caplog.text


def direct(self: Any, batch: Any) -> None:
    """The student's backward pass without ``manual_backward``, and one step for both losses."""
    first, second = self.optimizers()
    first.zero_grad()
    second.zero_grad()
    features = self.backbone(batch[0][0])
    self.projector(features).square().mean().backward()
    self.manual_backward(self.probe(features.detach()).square().mean())
    first.step()
    second.step()


def test_unreached_backbone_is_warned_once(kit: Any, caplog: Any) -> None:
    (baseline, weight_0, with_sp), callback = fit_weights(kit, ("d",), d=direct)
    assert kit.same(baseline, weight_0)
    assert not torch.equal(baseline["backbone.0.weight"], with_sp["backbone.0.weight"])
    assert is_head_trained(callback) and callback.step == 3  # from the second step on
    assert caplog.text.count("no self.manual_backward(loss) of the step reaches the back") == 2


def test_probe_alone_first_is_recovered_from(kit: Any) -> None:
    """Steps of a probe before those of the method: in these SP joins the method's pass."""
    _, callback = fit_weights(kit, ("p", "ps"))
    assert is_head_trained(callback)


def test_skipped_steps_are_allowed(kit: Any) -> None:
    (baseline, weight_0, with_sp), callback = fit_weights(kit, ("s", ""))
    assert kit.same(baseline, weight_0) and not kit.same(baseline, with_sp)
    assert callback.step == 2


def test_frozen_backbone_trains_the_head(kit: Any) -> None:
    module = make_host(kit, ("p",))
    module.backbone.requires_grad_(False)
    callback = SPCallback("backbone", weight=1, warmup_fraction=0, relative_weight=False)
    kit.fit(module, callback)
    assert callback.step == 4


def in_halves(self: Any, batch: Any) -> None:
    """Two backward passes, and a step for both."""
    optimizer = self.optimizers()[0]
    optimizer.zero_grad()
    for half in batch[0][0].chunk(2):
        features = self.backbone(half)
        probe = self.probe(features.detach()).square().mean()
        self.manual_backward((self.projector(features).square().mean() + probe) / 2)
    optimizer.step()


def sharpness_aware(self: Any, batch: Any) -> None:
    """SAM, Foret et al., ICLR 2021: the gradient that counts is that of the second pass."""
    optimizer = self.optimizers()[0]
    for is_second in (False, True):
        optimizer.zero_grad()
        self.manual_backward(self.projector(self.backbone(batch[0][0])).square().mean())
        sign = -0.01 if is_second else 0.01
        with torch.no_grad():
            for parameter in self.backbone.parameters():
                parameter += sign
    optimizer.step()


@pytest.mark.parametrize("relative", (False, True), ids=("factor", "relative"))
@pytest.mark.parametrize(("step", "calls"), [(in_halves, 4), (sharpness_aware, 8)])
def test_several_passes_train_the_head(kit: Any, step: Any, calls: int, relative: bool) -> None:
    (baseline, weight_0, with_sp), callback = fit_weights(kit, ("x",), relative=relative, x=step)
    assert kit.same(baseline, weight_0)
    assert not torch.equal(baseline["backbone.0.weight"], with_sp["backbone.0.weight"])
    assert is_head_trained(callback) and callback.step == calls


def test_ddp_takes_several_passes(kit: Any) -> None:
    ends = []
    for weight in (None, 0, 1):
        module = make_host(kit, ("h",), h=in_halves)
        callbacks = [] if weight is None else [SPCallback(weight=weight, warmup_fraction=0)]
        kit.fit(module, *callbacks, devices=2, strategy="ddp_fork")
        ends.append(module.backbone[0].weight.detach().clone())
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
