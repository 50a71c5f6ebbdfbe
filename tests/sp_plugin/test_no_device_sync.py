"""No step synchronises the device: no value is read back, and no shape depends on a value."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from sp_plugin import (
    SpatialPrediction,
    SpatialProbe,
    SPConfig,
    SPSession,
    ViewBoxes,
    gradient_balance,
    spatial_prediction,
)
from sp_plugin.crops.batch_colors import color_crops
from sp_plugin.crops.sampler import sample_crops
from sp_plugin.features import input_size
from sp_plugin.isolation import make_generator
from sp_plugin.objective import targets
from sp_plugin.structures import UncoloredCrops
from sp_plugin.views.capture import FeatureCapture

_READ_OP = torch.ops.aten._local_scalar_dense.default


@pytest.fixture(scope="module", autouse=True)
def _fake_gpu_works() -> None:
    """Older PyTorch with CUDA needs a driver when a tensor of a fake GPU is sliced."""
    try:
        with FakeTensorMode():
            torch.zeros(2, device="cuda:0")[:1]
    except RuntimeError as reason:
        pytest.skip(f"PyTorch {torch.__version__}: {str(reason).splitlines()[0]}")


class SyncRecorder(TorchDispatchMode):
    """Records what synchronises a device: values that are read, and blocking copies."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is _READ_OP:
            self.syncs.append("read")
        if func is torch.ops.aten._to_copy.default and out.device != args[0].device:
            blocks = out.device.type == "cpu" or not kwargs.get("non_blocking")
            self.syncs += [f"{args[0].device.type} to {out.device.type}"] if blocks else []
        return out


def syncs_on_fake_gpu(work: Callable[[torch.device], None]) -> list[str]:
    """Synchronisations of a function on a fake GPU; no GPU is needed.

    Reading a value there is an error, and so are shapes that depend on one (nonzero, boolean
    indices).
    """
    recorder = SyncRecorder()
    with FakeTensorMode(), recorder:
        work(torch.device("cuda:0"))
    return recorder.syncs


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
        crops = sample_crops(images, sampler, 16, generator, 0.5, sharpness == "equal")
        assert crops.pixels.device == crops.boxes.device == device

    assert syncs_on_fake_gpu(draw) == []


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_coloring_does_not_sync(channels: int):
    def color(device: torch.device) -> None:
        pixels = torch.empty(8, channels, 20, 30, dtype=torch.uint8, device=device)
        boxes, rows = (torch.empty(2, 4, n, device=device) for n in (4, 3))
        order = tuple(range(channels))[::-1]
        crops = UncoloredCrops(boxes, pixels, rows.new_empty(4, 3, channels), order)
        colored = color_crops(crops, make_generator(0)).pixels
        assert colored.device == device and colored.shape == pixels.shape

    assert syncs_on_fake_gpu(color) == []


class PairLossModule(nn.Module):
    """The pair loss as a module, whose weights can be replaced in a functional call."""

    def __init__(self, sp: SpatialPrediction) -> None:
        super().__init__()
        self.sp = sp

    def forward(self, features: Tensor, boxes: Tensor, flips: Tensor | None = None) -> Tensor:
        return self.sp.pair_loss(features, boxes, flips, step=3).loss


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("pairs", ["all", 2])
@pytest.mark.parametrize("settings", [{}, {"target_encoding": "anchor", "loss": "mse"}], ids=str)
def test_pair_loss_does_not_sync(pairs: Any, settings: dict[str, Any], flipped: bool):
    module = PairLossModule(_sp(num_crops=4, num_pairs=pairs, **settings))
    shapes = {name: value.shape for name, value in module.state_dict().items()}

    def compute_loss(device: torch.device) -> None:
        weights = {name: torch.empty(shape, device=device) for name, shape in shapes.items()}
        features = torch.empty(4, 6, 8, device=device, requires_grad=True)
        boxes = torch.empty(4, 6, 4, device=device)
        flips = torch.empty(4, 6, 2, device=device) if flipped else None
        loss = torch.func.functional_call(module, weights, (features, boxes, flips))
        assert loss.device == device and loss.requires_grad

    assert syncs_on_fake_gpu(compute_loss) == []


def move(module: nn.Module, device: torch.device) -> nn.Module:
    """As `Module.to`, which cannot swap fake parameters for those on another device."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(parameter.to(device))
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = buffer.to(device)
    return module


@pytest.mark.parametrize("relative_weight", [False, True])
@pytest.mark.parametrize("source", ["view", "image"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_session_stays_on_the_device(
    source: str, relative_weight: bool, fraction: float, monkeypatch
):
    """All of a session's steps on a fake GPU: a tensor that is left on the CPU is an error."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    # Found once, with values that are read; and the GPU's generator, which is none here.
    spec = input_size.find_input_size(net, 16)
    monkeypatch.setattr(spatial_prediction, "find_input_size", lambda *_, **__: spec)
    monkeypatch.setattr(spatial_prediction, "private_rng", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(targets, "_known_stds", {})  # numbers of earlier tests
    monkeypatch.setattr(nn.Module, "to", move)
    # Autograd runs on no fake GPU.
    monkeypatch.setattr(
        gradient_balance,
        "gradients_of_loss",
        lambda _, backbone, *__: [(p, torch.zeros_like(p)) for p in backbone.parameters()],
    )
    settings = {
        "source": source,
        "relative_weight": relative_weight,
        "sample_fraction": fraction,
        "hidden_dim": 8,
    }
    losses = []

    def train(device: torch.device, steps: int) -> None:
        with device:
            net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
            sp = SpatialPrediction(8, settings)
        session = SPSession(net, sp=sp)
        session.remove()  # the hooks of the first steps, which read values
        pixels = torch.zeros(16, 3, 20, 20, dtype=torch.uint8)  # from the data loader
        crops = UncoloredCrops(torch.rand(4, 4, 4), pixels, torch.rand(4, 3, 3))
        for step in range(steps):
            views = torch.rand(4, 3, 40, 40, device=device)
            out = session(views, crops if source == "image" else None, progress=step / 3)
            assert {value.device for value in out.metrics.values()} == {device}
            losses.append(out.loss.device)

    at_start = syncs_on_fake_gpu(functools.partial(train, steps=1))  # constants that are moved
    assert "read" not in at_start
    assert syncs_on_fake_gpu(functools.partial(train, steps=4)) == at_start
    assert losses == [torch.device("cuda:0")] * 5


def test_spatial_probe_stays_on_the_device(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    spec = input_size.find_input_size(net, 16)
    monkeypatch.setattr(spatial_prediction, "find_input_size", lambda *_, **__: spec)
    monkeypatch.setattr(spatial_prediction, "private_rng", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(targets, "_known_stds", {})
    monkeypatch.setattr(nn.Module, "to", move)
    monkeypatch.setattr(
        SpatialPrediction, "from_backbone", lambda _, __, config, ___: SpatialPrediction(8, config)
    )
    # Autograd runs on no fake GPU; AdamW leaves parameters without gradients as they are.
    monkeypatch.setattr(Tensor, "backward", lambda _: None)

    def train(device: torch.device, steps: int) -> None:
        with device:
            probe = SpatialProbe(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), every=1)
        for _ in range(steps):
            probe(torch.rand(8, 3, 40, 40, device=device))

    at_start = syncs_on_fake_gpu(functools.partial(train, steps=1))
    assert "read" not in at_start
    assert syncs_on_fake_gpu(functools.partial(train, steps=3)) == at_start


def test_view_matching_syncs_only_once():
    net = nn.Conv2d(3, 8, 3)
    capture = FeatureCapture(net)
    for step in range(3):
        views = list(torch.rand(4, 6, 3, 12, 12))
        view_boxes = ViewBoxes(torch.rand(4, 6, 4), torch.ones(4, 6, 2))
        capture.start()
        net(torch.cat(views))
        with SyncRecorder() as recorder:
            encoded = capture.collect(views, view_boxes)
        assert encoded.boxes.isfinite().all()
        assert recorder.syncs == [] if step else recorder.syncs != []


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_crops": 4, "num_pairs": 3}, {"update_bn": True}, {"relative_weight": True}],
    ids=str,
)
def test_cpu_step_reads_one_value(settings: dict[str, Any]):
    """Whether the features are finite, which is read on a CPU only."""
    sp, steps = _sp(**settings), range(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.1))
    images = torch.rand(6, 3, 40, 40)
    with SyncRecorder() as recorder:
        for step in steps:
            (net(images).square().mean() + sp(net, images, step=step).loss).backward()
    assert recorder.syncs == ["read"] * len(steps)
