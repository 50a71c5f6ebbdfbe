"""No step makes the host wait for the device: nothing is read back, no shape hangs on a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.isolation import make_generator
from sp_plugin.structures import Crops
from sp_plugin.views.capture import FeatureCapture
from sp_plugin.views.transform import ViewBoxes

_READ_OP = torch.ops.aten._local_scalar_dense.default


class SyncRecorder(TorchDispatchMode):
    """Keeps what makes a host wait: values read, and copies that are not left to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is _READ_OP:
            self.seen.append("read")
        if func is torch.ops.aten._to_copy.default and out.device != args[0].device:
            told = f"{args[0].device.type} to {out.device.type}"
            waits = out.device.type == "cpu" or not kwargs.get("non_blocking")
            self.seen += [told] if waits else []
        return out


def syncs_on_fake_gpu(work: Callable[[torch.device], None]) -> list[str]:
    """What a piece of work would wait for on a GPU, of which there need be none: all is faked.

    Reading a value, and shapes that hang on one (nonzero, boolean indices), are errors there.
    """
    waits = SyncRecorder()
    with FakeTensorMode(), waits:
        work(torch.device("cuda:0"))
    return waits.seen


def _sp(**settings: Any) -> SpatialPrediction:
    config = SPConfig.from_dict(
        {
            "crop_size": 16,
            "hidden_dim": 32,
            "relative_weight": False,
            "warmup_fraction": 0,
            **settings,
        }
    )
    return SpatialPrediction(8, config)


@pytest.mark.parametrize("sharpness", ["equal", "native"])
@pytest.mark.parametrize("side", [40, 100])
def test_sampling_crops_does_not_sync(sharpness: str, side: int):
    sampler = SPConfig(num_crops=4).resolve(side).build_sampler()

    def draw(device: torch.device) -> None:
        images = torch.empty(6, 3, side, side, device=device)
        generator = make_generator(0)
        crops = Crops.sample(images, sampler, 16, generator, 0.5, sharpness == "equal")
        assert crops.pixels.device == crops.boxes.device == device

    assert syncs_on_fake_gpu(draw) == []


class PairLossModule(nn.Module):
    """The second half of a step as a forward pass, so that its weights can be exchanged."""

    def __init__(self, sp: SpatialPrediction) -> None:
        super().__init__()
        self.sp = sp

    def forward(self, features: Tensor, boxes: Tensor, flips: Tensor | None = None) -> Tensor:
        return self.sp.pair_loss(features, boxes, flips, step=3).loss


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("pairs", ["all", 2])
@pytest.mark.parametrize("settings", [{}, {"target_encoding": "anchor", "loss": "mse"}], ids=str)
def test_pair_loss_does_not_sync(pairs: Any, settings: dict[str, Any], flipped: bool):
    second = PairLossModule(_sp(num_crops=4, num_pairs=pairs, **settings))
    shapes = {name: value.shape for name, value in second.state_dict().items()}

    def ask(device: torch.device) -> None:
        weights = {name: torch.empty(shape, device=device) for name, shape in shapes.items()}
        features = torch.empty(4, 6, 8, device=device, requires_grad=True)
        boxes = torch.empty(4, 6, 4, device=device)
        flips = torch.empty(4, 6, 2, device=device) if flipped else None
        loss = torch.func.functional_call(second, weights, (features, boxes, flips))
        assert loss.device == device and loss.requires_grad

    assert syncs_on_fake_gpu(ask) == []


def test_view_matching_syncs_only_once():
    net = nn.Conv2d(3, 8, 3)
    watch = FeatureCapture(net)
    for step in range(3):
        views = list(torch.rand(4, 6, 3, 12, 12))
        places = ViewBoxes(torch.rand(4, 6, 4), torch.ones(4, 6, 2))
        watch.open()
        net(torch.cat(views))
        with SyncRecorder() as waits:
            encoded = watch.collect(views, places)
        assert encoded.boxes.isfinite().all()
        assert waits.seen == [] if step else waits.seen != []


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_crops": 4, "num_pairs": 3}, {"update_bn": True}, {"relative_weight": True}],
    ids=str,
)
def test_cpu_step_reads_one_value(settings: dict[str, Any]):
    """The one is whether the features are finite: a CPU has it at hand."""
    sp, steps = _sp(**settings), range(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.1))
    images = torch.rand(6, 3, 40, 40)
    with SyncRecorder() as waits:
        for step in steps:
            (net(images).square().mean() + sp(net, images, step=step).loss).backward()
    assert waits.seen == ["read"] * len(steps)
