"""What SP must cost: its crops through the backbone, counted and timed; and what is its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sp_bench.flops import count_flops
from sp_bench.methods import Method
from sp_bench.speed.cases import Case
from sp_bench.speed.settings import SpeedSettings
from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.features.extraction import extract_features


class Floor:
    """SP's crops and SP's own parts, each alone, beside a host's backbone.

    Args:
        case: the host.
        settings: device and precision.
        method: the host itself, whose backbone is a copy for this alone.
        sp: settings of SP.

    Attributes:
        side: of the crops, in pixels.
    """

    def __init__(
        self, case: Case, settings: SpeedSettings, method: Method, sp: dict[str, object]
    ) -> None:
        self._settings = settings
        self._backbone = method.backbone.to(settings.target).train()
        side = (case.batch_size, 3, case.side, case.side)
        self._images = _channels_last(torch.rand(side), settings.target)
        config = SPConfig.from_dict(sp)
        self._sp = SpatialPrediction.from_backbone(self._backbone, self._images, config)
        self.side = self._sp.config.crop_size
        self._generator = torch.Generator().manual_seed(0)
        drawn = self._sp.sample_crops(self._images, self._generator)
        self._crops = _channels_last(drawn.pixels, settings.target)
        self._given = _Given(self._backbone, len(self._crops), self._sp.feature_dim)
        self._step = 0

    def crops(self) -> None:
        """The crops through the backbone, forward and backward, and nothing else."""
        with self._autocast():
            features = extract_features(self._backbone, self._crops)
        features.float().square().mean().backward()
        self._backbone.zero_grad(set_to_none=True)

    def parts(self) -> None:
        """Sampling, cropping, guards, targets, head and loss, as if features were there already."""
        with self._autocast():
            out = self._sp(self._given, self._images, step=self._step)
        out.loss.backward()
        self._sp.zero_grad(set_to_none=True)
        self._step += 1

    def drawing(self) -> None:
        """Of these parts, sampling and cropping alone."""
        self._sp.sample_crops(self._images, self._generator)

    def _autocast(self) -> torch.autocast:
        half = self._settings.precision == "bf16-mixed"
        return torch.autocast(self._settings.device, torch.bfloat16, enabled=half)


class _Given(nn.Module):
    """Has its features already; the backbone is here for SP to guard its buffers."""

    def __init__(self, backbone: nn.Module, rows: int, width: int) -> None:
        super().__init__()
        self.guarded = backbone
        like = next(backbone.parameters())
        self.features = nn.Parameter(torch.randn(rows, width, device=like.device))

    def forward(self, crops: Tensor) -> Tensor:
        return self.features * 1.0


def _channels_last(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device, memory_format=torch.channels_last)


def counted_floor(host: Callable[[], object], crops: Callable[[], object]) -> dict[str, float]:
    """The floor of the step ratio by counted operations, forward and backward.

    Args:
        host: makes one step of the host alone.
        crops: the crops' forward and backward pass.

    Returns:
        ``host`` and ``crops``, FLOPs, and ``floor``, 1 + crops / host.

    >>> product = lambda n: lambda: torch.zeros(n, 4) @ torch.zeros(4, 8)
    >>> counted_floor(product(4), product(2))
    {'host': 256.0, 'crops': 128.0, 'floor': 1.5}
    """
    flops = {"host": count_flops(host), "crops": count_flops(crops)}
    return {**flops, "floor": 1 + flops["crops"] / flops["host"]}
