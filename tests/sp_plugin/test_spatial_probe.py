"""SpatialProbe: it finds what features say of places, and leaves no trace in the training."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sp_plugin import ConfigError, SpatialProbe, SPConfig, SPSession
from sp_plugin.isolation import rng_fingerprint

SIDE, DIM = 32, 48
R2 = ("spatial_probe_r2_dx", "spatial_probe_r2_dy", "spatial_probe_r2_scale")


def grid(count: int) -> Tensor:
    """Images whose pixels are their own positions."""
    x = torch.linspace(-1, 1, SIDE).expand(SIDE, SIDE)
    return torch.stack([x, x.T, torch.zeros(SIDE, SIDE)]).expand(count, -1, -1, -1)


class Encoder(nn.Module):
    """Features are a function of a crop's mean and extent; ``change`` makes others of them."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda features: features) -> None:
        super().__init__()
        self.mix = nn.Linear(5, DIM)
        nn.init.normal_(self.mix.weight, std=1.5)
        self.change = change

    def forward(self, crops: Tensor) -> Tensor:
        means, extents = crops[:, :2].mean((2, 3)), crops.std((2, 3))
        return self.change(self.mix(torch.cat([means, extents], dim=1)).relu())


def run(change: Callable[[Tensor], Tensor], calls: int = 40) -> tuple[SpatialProbe, list[float]]:
    probe = SpatialProbe(Encoder(change), fraction=1, every=1)
    for _ in range(calls):
        probe(grid(16))
    metrics = probe.metrics()
    return probe, [metrics[name].item() for name in R2]


def test_features_of_the_place_get_a_high_r2():
    _, (dx, dy, scale) = run(lambda features: features)
    # One crop that knows its place explains more than half of the offset by itself.
    assert 0.2 < min(dx, dy) < max(dx, dy) < 0.5
    assert 0.05 < scale < 0.5


@pytest.mark.parametrize(
    "change",
    [torch.rand_like, torch.zeros_like, lambda x: x.detach() * 0 + x.mean(0)],
    ids=["noise", "zeros", "mean"],
)
def test_features_without_places_get_no_r2(change: Callable[[Tensor], Tensor]):
    probe, r2 = run(change, calls=20)
    assert max(map(abs, r2)) < 0.01
    assert all(value.isfinite() for value in probe.metrics().values())


def test_place_of_one_crop_is_no_gain():
    """Of four crops one shows where it is, which predicts a part of the offset to the others."""

    def only_first(features: Tensor) -> Tensor:
        is_first = torch.arange(len(features)) < len(features) // 4
        return features * is_first.unsqueeze(1)

    probe, r2 = run(only_first, calls=60)
    total, pair, *_ = probe.state_dict()["sums"]
    assert (1 - pair / total)[:2].min() > 0.1, "the head of both crops learns nothing either"
    assert max(r2[:2]) < 0.05


class Method:
    """A method with dropout and BatchNorm, and its loop; with or without a probe."""

    def __init__(self, autocast: bool = False, **probe: Any) -> None:
        torch.manual_seed(0)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
            nn.Conv2d(8, 16, 3), nn.InstanceNorm2d(16, track_running_stats=True),
        )  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.backbone.parameters(), lr=0.01)
        self.probe = SpatialProbe(self.backbone, **probe) if probe else None
        self.autocast = autocast
        self.losses: list[Tensor] = []
        self.seen: list[dict[str, Tensor]] = []  # metrics after each step

    def train(self, steps: range) -> None:
        for step in steps:
            for seed in (torch.manual_seed, random.seed, np.random.seed):
                seed(step)
            view = torch.rand(8, 3, SIDE, SIDE)
            with torch.autocast("cpu", torch.bfloat16, self.autocast):
                if self.probe and step % 2:  # before a graph is made, or between both passes
                    self.probe({"image": view}, progress=step / 6)
                loss = self.backbone(view).float().square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            if self.probe and not step % 2:
                self.probe({"image": view}, progress=step / 6)
            self.optimizer.step()
            self.losses.append(loss.detach())
            self.seen.append(self.probe.metrics() if self.probe else {})

    def state(self) -> list[Any]:
        parts = [self.backbone.state_dict(), self.optimizer.state_dict()["state"], self.losses]
        return [*parts, [p.grad for p in self.backbone.parameters()]]


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("autocast", [False, True])
def test_training_is_the_same_bit_for_bit(autocast: bool):
    plain, probed = Method(autocast), Method(autocast, every=1, fraction=0.5)
    states = []
    for method in (plain, probed):
        method.train(range(4))
        states.append((rng_fingerprint(), [part.training for part in method.backbone.modules()]))
    assert_same(probed.state(), plain.state())
    assert states[0] == states[1]
    assert list(probed.backbone.state_dict()) == list(plain.backbone.state_dict())
    assert not any(part._forward_hooks for part in probed.backbone.modules())


@pytest.mark.parametrize("stop", [2, 3])
def test_resumed_probe_equals_uninterrupted(stop: int):
    settings = {"every": 2, "fraction": 1}
    whole, first, second = (Method(**settings) for _ in range(3))
    whole.train(range(6))
    first.train(range(stop))
    file = io.BytesIO()
    torch.save([first.probe.state_dict(), first.optimizer.state_dict()], file)
    file.seek(0)
    probe, optimizer = torch.load(file, weights_only=True)
    second.backbone.load_state_dict(first.backbone.state_dict())
    second.optimizer.load_state_dict(optimizer)
    second.probe.load_state_dict(probe)
    second.train(range(stop, 6))
    assert_same(first.seen + second.seen, whole.seen)
    assert_same(second.probe.state_dict(), whole.probe.state_dict())


def test_heads_are_measured_before_training():
    """Heads begin with predictions of the mean: the first measurement is of no information."""
    probe = SpatialProbe(Encoder(), fraction=1)
    assert probe.metrics() == {}
    probe(grid(16))
    total, *errors = probe.state_dict()["sums"]
    for error in errors:
        torch.testing.assert_close(error, total)
    assert [probe.metrics()[name].item() for name in R2] == [0, 0, 0]


def test_other_steps_do_nothing(monkeypatch):
    probe, encoder = SpatialProbe(Encoder(), every=3), Encoder()
    calls = []
    encoder.register_forward_pre_hook(lambda *_: calls.append(probe.step - 1))
    for _ in range(7):
        probe.backbone = encoder
        probe(torch.rand(4, 3, SIDE, SIDE))
    assert sorted(set(calls)) == [0, 3, 6]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 1e30])
def test_nonfinite_images_do_not_count(broken: float):
    probe = SpatialProbe(nn.Conv2d(3, 8, 3), fraction=1, every=1)
    for step in range(4):
        view = torch.rand(4, 3, SIDE, SIDE)
        view[1] = broken if step == 1 else view[1]
        view = torch.full_like(view, broken) if step == 2 else view
        probe(view)
        if step == 2:
            assert probe.state_dict()["known"].sum() == 4 + 3
    metrics, state = probe.metrics(), probe.state_dict()
    assert all(value.isfinite() for value in metrics.values()) and metrics[R2[0]] < 0.9
    assert all(value.isfinite().all() for value in state["heads"].values())
    assert state["sums"].isfinite().all() and state["features"].isfinite().all()
    assert state["known"].sum() == 4 + 3 + 0 + 4


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_batches_are_enough(count: int):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    probe = SpatialProbe(net, every=1)
    for _ in range(2):
        probe(torch.rand(count, 3, SIDE, SIDE))
    assert probe.state_dict()["known"].sum() == 2 * min(count, 2)
    assert all(value.isfinite() for value in probe.metrics().values())


@pytest.mark.parametrize("channels", [1, 13])
def test_other_channels_are_probed(channels: int):
    probe = SpatialProbe(nn.Conv2d(channels, 8, 3), every=1)
    probe({"label": torch.arange(4), "views": [torch.rand(4, channels, SIDE, SIDE)]})
    assert probe.metrics()["spatial_probe_rankme"] > 1


def test_vit_is_probed():
    vit = VisionTransformer(
        img_size=SIDE, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=0,
        drop_path_rate=0.2,
    )  # fmt: skip
    probe = SpatialProbe(vit, every=1)
    view, before = torch.rand(4, 3, SIDE, SIDE), rng_fingerprint()
    probe(view)
    assert before == rng_fingerprint()
    assert all(value.isfinite() for value in probe.metrics().values())


def test_more_images_than_the_buffer():
    probe = SpatialProbe(nn.Conv2d(3, 8, 3), fraction=1, every=1)
    probe(torch.rand(150, 3, SIDE, SIDE))
    assert probe.state_dict()["known"].sum() == 128


def test_images_are_spread_over_the_batch():
    net = Encoder(lambda features: features)
    seen: list[Tensor] = []
    probe = SpatialProbe(net, fraction=0.25)
    handle = net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    probe(torch.arange(16.0).view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE))
    handle.remove()
    assert seen[-1].mean((1, 2, 3)).round().int().tolist() == 4 * [0, 4, 8, 12]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"fraction": 0}, "fraction: got 0, takes a share of the batch's images in (0, 1]"),
        ({"every": 0}, "every: got 0, takes a whole number of steps from 1 up"),
    ],
)
def test_bad_setting_is_refused(settings: dict[str, Any], line: str):
    with pytest.raises(ConfigError) as error:
        SpatialProbe(nn.Conv2d(3, 8, 3), **settings)
    assert str(error.value) == line


def test_crops_are_those_of_sp():
    """With SP's own settings, so that runs with and without SP are measured by the same crops."""
    config = SPConfig(source="image", update_bn=True, num_crops=2, target_encoding="anchor")
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    probe, plain = SpatialProbe(net, config), SpatialProbe(net)
    view = torch.rand(4, 3, SIDE, SIDE)
    for one in (probe, plain):
        one(view)
    assert_same(probe.state_dict(), plain.state_dict())
    assert not net[1].num_batches_tracked


@pytest.mark.parametrize("weight", [0, 0.5])
def test_session_runs_a_probe(weight: float):
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.1))]
    nets.append(copy.deepcopy(nets[0]))
    outputs, states = [], []
    for net, probe in zip(nets, (False, True), strict=True):
        session = SPSession(net, weight=weight, hidden_dim=8, probe=probe)
        optimizer = torch.optim.SGD([*net.parameters(), *session.parameters()], lr=0.1)
        torch.manual_seed(1)
        for step in range(3):
            view = torch.rand(4, 3, SIDE, SIDE)
            out = session(view, progress=step / 3, probe_metrics=step == 2)
            optimizer.zero_grad()
            (net(view).square().mean() + out.loss).backward()
            optimizer.step()
        outputs.append(out)
        states.append([net.state_dict(), torch.get_rng_state()])
    assert_same(*states)
    plain, probed = (set(out.metrics) for out in outputs)
    assert probed - plain == set(session.probe.metrics()) and len(probed - plain) == 5
    copied = SPSession(nets[1], weight=weight, hidden_dim=8, probe=True)
    copied.load_state_dict(session.state_dict())
    assert_same(copied.state_dict()["probe"], session.state_dict()["probe"])
    assert copy.deepcopy(session).probe.backbone is None
