"""torch.compile: no graph breaks, no recompilation in each step, and the same results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from sp_plugin import SpatialPrediction, SPConfig, SPSession, crop_resize
from sp_plugin.crops.resize import matched_resolution
from sp_plugin.crops.sampler import CropSampler
from sp_plugin.objective.pair_loss import compute_pair_loss
from sp_plugin.objective.pairs import sample_pairs


@pytest.fixture(autouse=True)
def _reset_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Compiled:
    """A function compiled into one graph, where a break is an error; its graphs are counted."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.counter = CompileCounterWithBackend("aot_eager")
        self.call = torch.compile(function, fullgraph=True, backend=self.counter)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


@pytest.fixture(scope="module")
def _hooks_compile() -> None:
    """PyTorch 2.5, 2.6 and 2.8 break the graph where an intermediate result gets a hook."""

    def hooked(values: Tensor) -> Tensor:
        doubled = values * 2
        doubled.register_hook(lambda gradient: gradient)
        return doubled.sum()

    try:
        torch.compile(hooked, fullgraph=True, backend="eager")(torch.ones(2, requires_grad=True))
    except torch._dynamo.exc.Unsupported as reason:
        pytest.skip(f"PyTorch {torch.__version__}: {str(reason).splitlines()[0]}")


@pytest.mark.usefixtures("_hooks_compile")  # versions that compile no hook know no varying float
def test_boxes_compile_for_any_progress():
    sampler = CropSampler(((0.2, 0.4), (0.05, 0.3)), max_iou=(1.0, 0.1), num_crops=4)
    to_boxes = Compiled(sampler.to_boxes)
    for step, progress in enumerate((0.0, 0.25, 0.5, 0.75)):
        draws = sampler.draw_uniform(8, torch.Generator().manual_seed(step))
        torch.testing.assert_close(to_boxes(draws, progress), sampler.to_boxes(draws, progress))
    assert to_boxes.counter.frame_count <= 2  # one graph for the first value, one for all others


# Eager code cuts out the crops of large images first on a CPU; a graph cannot.
@pytest.mark.parametrize("side", [40, 100])
@pytest.mark.parametrize("sharpness", ["equal", "native"])
def test_crop_resize_compiles_once(side: int, sharpness: str):
    sampler = CropSampler(num_crops=2)

    def cut(images: Tensor, boxes: Tensor, draws: Tensor) -> Tensor:
        resolution = None
        if sharpness == "equal":
            resolution = matched_resolution(boxes[..., 2:] * side, 16, draws)
        return crop_resize(images, boxes, 16, resolution)

    compiled = Compiled(cut)
    for step in range(3):
        boxes = sampler(6, torch.Generator().manual_seed(step))
        inputs = torch.rand(6, 3, side, side), boxes, torch.rand(6, 1)
        torch.testing.assert_close(compiled(*inputs), cut(*inputs), atol=1e-5, rtol=0)
    assert compiled.counter.frame_count == 1


def _pair_loss_inputs(settings: dict[str, str]) -> tuple[SpatialPrediction, Tensor, Tensor]:
    sp = SpatialPrediction(8, SPConfig(num_crops=4, hidden_dim=16, **settings))
    boxes = sp.sampler(6, torch.Generator().manual_seed(0))
    return sp, boxes, torch.randn(4, 6, 8, requires_grad=True)


@pytest.mark.usefixtures("_hooks_compile")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_encoding": "anchor", "head": "plain", "loss": "l1"},
        {"target_encoding": "image", "head": "difference", "loss": "mse"},
    ],
    ids=str,
)
def test_pair_loss_compiles_for_any_pairs(settings: dict[str, str]):
    sp, boxes, features = _pair_loss_inputs(settings)
    compiled = Compiled(compute_pair_loss)
    for step in range(3):
        inputs = boxes, sample_pairs(4, 3, step), sp.head, sp.targets, sp.loss
        outputs = [pair_loss(features, *inputs) for pair_loss in (compiled, compute_pair_loss)]
        gradients = [torch.autograd.grad(out.loss, [features, *sp.parameters()]) for out in outputs]
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(*(out.metrics for out in outputs))
        torch.testing.assert_close(*(out.prediction for out in outputs))
    assert compiled.counter.frame_count <= 2


@pytest.mark.usefixtures("_hooks_compile")
def test_pair_loss_compiles_with_all_pairs():
    sp, boxes, features = _pair_loss_inputs({})
    out = Compiled(sp.pair_loss)(features, boxes, step=3)
    torch.testing.assert_close(out.loss, sp.pair_loss(features, boxes, step=3).loss)


@pytest.mark.usefixtures("_hooks_compile")
def test_nonfinite_is_gated_when_compiled():
    sp, boxes, features = _pair_loss_inputs({})
    compiled = Compiled(compute_pair_loss)
    inputs = boxes, sample_pairs(4), sp.head, sp.targets, sp.loss
    corrupted = features.detach().clone()
    corrupted[1, 2, 3] = float("nan")
    corrupted.requires_grad_()
    out = compiled(corrupted, *inputs)
    assert out.metrics["skipped_fraction"] == 1 and out.loss == 0
    assert not torch.autograd.grad(out.loss, corrupted)[0].any()
    with torch.no_grad():
        sp.head.mlp[0].weight.fill_(float("inf"))
    out = compiled(features, *inputs)
    assert out.metrics["skipped_fraction"] == 1 and out.loss == 0
    assert not torch.autograd.grad(out.loss, features)[0].any()


@pytest.mark.slow
def test_compiled_module_matches_eager():
    """Graphs break at the private generators and at the guards of the backbone, without errors."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.2))
    images = torch.rand(4, 3, 32, 32)
    sp = SpatialPrediction(8, SPConfig(crop_size=16, hidden_dim=16, relative_weight=False))
    compiled = torch.compile(sp, backend="aot_eager")
    for step in (1, 2):
        outputs = [each(net, images, step=step, progress=0.02 * step) for each in (compiled, sp)]
        assert torch.equal(outputs[0].boxes, outputs[1].boxes)
        torch.testing.assert_close(outputs[0].metrics, outputs[1].metrics)
        torch.testing.assert_close(
            *(torch.autograd.grad(out.loss, net[0].weight) for out in outputs)
        )
    assert not net[1].running_mean.any()


@pytest.mark.slow
def test_compiled_module_takes_weight_0():
    net, images = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.rand(4, 3, 32, 32)
    sp = SpatialPrediction(8, SPConfig(crop_size=16, hidden_dim=16, weight=0))
    compiled = torch.compile(sp, backend="aot_eager")
    outputs = [each(net, images, step=1) for each in (compiled, sp)]
    assert outputs[0].loss == 0
    torch.testing.assert_close(outputs[0].metrics, outputs[1].metrics)


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="needs PyTorch 2.6")
@pytest.mark.parametrize("probe", [False, True], ids=["weight 0", "weight 0, probe"])
def test_weight_0_leaves_the_methods_graph(probe: bool):
    """One graph for the method's own size: with a variable one its kernels round otherwise."""

    def graphs(with_sp: bool) -> list[list[str]]:
        torch._dynamo.reset()
        found: list[list[str]] = []

        def keep_inputs(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
            # A variable size would be a number next to the tensors.
            found.append(sorted(str(getattr(each, "shape", each)) for each in inputs))
            return graph.forward

        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1))
        compiled = torch.compile(net, backend=keep_inputs)
        sp = SPSession(compiled, weight=0, crop_size=16, probe=probe) if with_sp else None
        for step in range(2):
            images = torch.rand(4, 3, 32, 32)
            loss = compiled(images).square().mean()
            if sp is not None:
                loss = loss + sp(images, progress=step / 2).loss
            loss.backward()
        return found

    without = graphs(False)
    assert len(without) == 1 and graphs(True) == without
