"""Any settings, backbone, batch and images: one step with finite numbers, or one ConfigError line.

The examples are derandomised: the same in each run.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import default_collate
from torchvision.transforms.v2 import functional as F

from sp_plugin import ConfigError, SPSession, SPTransform, ViewBoxTransform

Sample = namedtuple("Sample", ["image", "label"])


@dataclasses.dataclass
class LabelledImages:
    image: Any
    label: Any


class Net(nn.Module):
    """A small convolution whose output is of any kind."""

    def __init__(self, output: Callable[[Tensor], Any], channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 4, 4)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.1)
        self.output = output

    def forward(self, images: Tensor) -> Any:
        return self.output(self.drop(self.norm(self.conv(images))))


class FixedSize(nn.Module):
    """Takes images of one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1))


def with_class_token(features: Tensor) -> Tensor:
    tokens = features.flatten(2).transpose(1, 2)
    return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "map": lambda: Net(lambda x: x),
    "vectors": lambda: Net(lambda x: x.mean((2, 3))),
    "tokens": lambda: Net(with_class_token),
    "dict": lambda: Net(lambda x: {"features": x, "logits": x.mean((2, 3))}),
    "tuple": lambda: Net(lambda x: (x, None)),
    "channels last": lambda: Net(lambda x: x.permute(0, 2, 3, 1)),
    "scalars": lambda: Net(lambda x: x.mean((1, 2, 3))),
    "nothing": lambda: Net(lambda x: None),
    "not finite": lambda: Net(lambda x: x / 0),
    "detached": lambda: Net(lambda x: x.detach()),
    "one channel": lambda: Net(lambda x: x, channels=1),
    "four channels": lambda: Net(lambda x: x, channels=4),
    "double": lambda: Net(lambda x: x).double(),
    "half": lambda: Net(lambda x: x).bfloat16(),
    "frozen": lambda: Net(lambda x: x).requires_grad_(False),
    "evaluated": lambda: Net(lambda x: x).eval(),
    "fixed size": FixedSize,
    "no parameters": lambda: nn.AvgPool2d(4),
    "large kernel": lambda: nn.Conv2d(3, 6, 40),
}

PIXELS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "zeros": lambda x: x * 0,
    "nan": lambda x: x * math.nan,
    "infinite": lambda x: x / 0,
    "huge": lambda x: x * 1e30,
    "tiny": lambda x: x * 1e-30,
    "bytes": lambda x: (x * 255).byte(),
    "double": lambda x: x.double(),
    "half": lambda x: x.half(),
    "complex": lambda x: x * 1j,
}

MODES = [  # of PIL images
    "1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"
]  # fmt: skip

BATCHES: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda x: x,
    "list": lambda x: [x, x.flip(3)],
    "labels": lambda x: ([x, x], torch.arange(len(x))),
    "dict": lambda x: {"mask": x[:, :1], "image": x},
    "named tuple": lambda x: Sample(x, 1),
    "dataclass": lambda x: LabelledImages({"view": x}, "label"),
    "stacked": lambda x: torch.stack([x, x], 1),
    "multi-crop": lambda x: [x[..., ::2, ::2], x],
    "one image": lambda x: x[0] if len(x) else x,
    "text": lambda x: "images",
    "nothing": lambda x: None,
    "empty": lambda x: [],
    "wrong part": lambda x: {"views": x, "sp": {"crops": x, "boxes": x}},
    "odd part": lambda x: {"views": x, "sp": 3},
}

# Values that are taken, and some that are refused.
SETTINGS: dict[str, tuple[list[Any], list[Any]]] = {
    "weight": ([0, 0.0, 0.5, 1000], [-1, math.nan, "1"]),
    "relative_weight": ([True, False], [None]),
    "warmup_fraction": ([0, 0.5], [1, 2]),
    "cooldown_fraction": ([0, 0.5], [1]),
    "source": (["view", "view", "image", "host_views"], ["host"]),
    "view": ([None, 0], [1, "image", "0.0", "", 1.5]),
    "num_crops": ([2, 3, 8], [1, 9, True]),
    "num_pairs": (["all", 1, 3], [0, "some"]),
    "crop_size": ([None, 4, 7, 32], [3, 2.5]),
    "crop_scale": ([None, [0.1, 0.2], [1.0, 1.0], [[0.1, 0.9], [0.05, 0.1]], [1e-9, 1e-8]], [1]),
    "crop_ratio": ([[0.1, 10], [1, 1]], [[2, 1], []]),
    "window": ([None, [0.5, 1], [1e-3, 1e-3]], [[1, 2]]),
    "max_iou": ([0, 1, [1, 0]], [[2, 0]]),
    "sharpness": (["equal", "native"], [None]),
    "target_encoding": (["symmetric", "anchor", "image"], ["polar"]),
    "head": ([None, "antisymmetric", "plain", "difference"], ["mlp"]),
    "hidden_dim": ([1, 8], [0]),
    "loss": (["smooth_l1", "l1", "mse"], ["huber"]),
    "pool": (["mean", "mean", "cls"], ["max"]),
    "layer": ([None, "conv", "norm"], ["nowhere"]),
    "update_bn": ([True, False], [0]),
    "seed": ([0, 2**62, 2**70], [-1]),
}


@st.composite
def drawn_settings(draw: st.DrawFn) -> dict[str, Any]:
    """A few settings, one example in six with one that is refused."""
    keys = draw(st.lists(st.sampled_from(list(SETTINGS)), max_size=5, unique=True))
    chosen = {key: draw(st.sampled_from(SETTINGS[key][0])) for key in keys}
    if draw(st.integers(0, 5)) == 0:
        bad = draw(st.sampled_from([*SETTINGS, "wieght"]))
        chosen[bad] = draw(st.sampled_from(SETTINGS[bad][1])) if bad in SETTINGS else 1
    return chosen


def mostly(usual: list[str], others: dict[str, Any]) -> st.SearchStrategy[str]:
    """One of the usual names in three of four examples, else any."""
    return st.integers(0, 3).flatmap(lambda n: st.sampled_from(usual if n else list(others)))


def make_batch(
    sp: dict[str, Any], batch: str, pixels: str, shape: tuple[int, ...], mode: str
) -> Any:
    """A batch of tensors; or of PIL images with SP's transform, for the sources that need one."""
    source = sp.get("source")
    images = PIXELS[pixels](torch.rand(shape))
    if source not in ("image", "host_views") or batch in ("text", "nothing", "wrong part"):
        return BATCHES[batch](images)
    wrapper = SPTransform if source == "image" else ViewBoxTransform
    transform = wrapper(lambda image: [F.pil_to_tensor(image.convert("RGB")) / 255] * 2)
    image = Image.new(mode, shape[:1:-1])
    return default_collate([(transform(image), 0) for _ in range(max(1, shape[0]))])


def first_images(batch: Any) -> Tensor | None:
    items = list(batch.values()) if isinstance(batch, dict) else batch
    while isinstance(items, (list, tuple)) and items:
        items = items[0]
    return items if isinstance(items, Tensor) and items.ndim == 4 else None


def run_step(
    sp: dict[str, Any],
    name: str,
    kinds: tuple[str, str, str],
    shape: tuple[int, ...],
    progress: Any,
) -> None:
    """One step of SP; everything else as it was before."""
    torch.manual_seed(0)
    backbone = BACKBONES[name]()
    batch = make_batch(sp, kinds[0], kinds[1], shape, kinds[2])
    before, rng = copy.deepcopy(backbone.state_dict()), torch.get_rng_state()
    session = SPSession(backbone, sp)
    try:
        with session.capture():
            if session.config.source == "host_views" and (views := first_images(batch)) is not None:
                with contextlib.suppress(RuntimeError):  # the method's own
                    backbone(views)
                rng, before = torch.get_rng_state(), copy.deepcopy(backbone.state_dict())
            out = session(batch, progress=progress)
        assert out.loss.isfinite()
        if out.loss.requires_grad:
            out.loss.backward()
        grads = [p.grad for p in backbone.parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in grads)
        if session.config.weight == 0:
            assert not any(grad.any() for grad in grads) and out.loss == 0
    finally:
        session.remove()
        assert torch.equal(torch.get_rng_state(), rng)
        assert not any(
            part._forward_pre_hooks or part._forward_hooks for part in backbone.modules()
        )
        if not session.config.update_bn:
            for key, value in backbone.state_dict().items():
                assert torch.equal(value, before[key]), key


def check_step(*arguments: Any) -> None:
    try:
        run_step(*arguments)
    except ConfigError as error:
        line = str(error)
        assert "\n" not in line and len(line) < 400 and ": " in line, line


ARGUMENTS = st.tuples(
    drawn_settings(),
    mostly(["map", "vectors", "tokens", "dict", "tuple", "channels last", "half"], BACKBONES),
    st.tuples(
        mostly(["tensor", "list", "labels", "dict", "named tuple", "stacked"], BATCHES),
        mostly(["plain", "zeros", "nan", "double", "half"], PIXELS),
        st.sampled_from(MODES),
    ),
    st.tuples(
        st.sampled_from([2, 3, 1, 0]),
        st.sampled_from([3, 3, 3, 3, 1, 4]),
        st.sampled_from([32, 24, 40, 17, 5, 1]),
        st.sampled_from([32, 24, 40, 9, 1]),
    ),
    st.sampled_from([None, 0, 0.5, 1, 0.25, 1.5, math.nan, "half"]),
)
fuzz = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    database=None,
    suppress_health_check=list(HealthCheck),
)


@settings(fuzz, max_examples=200)
@given(ARGUMENTS)
def test_step_runs_or_says_one_line(arguments: tuple[Any, ...]):
    check_step(*arguments)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(fuzz, max_examples=2000)
@given(ARGUMENTS)
def test_2000_steps_run_or_say_one_line(arguments: tuple[Any, ...]):
    check_step(*arguments)
