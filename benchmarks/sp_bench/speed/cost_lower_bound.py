"""Lower bound of SP's cost: its crops through the backbone, and SP's own parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sp_bench.flops import count_flops
from sp_bench.methods import Method
from sp_bench.speed.cases import Case
from sp_bench.speed.settings import SpeedSettings
from sp_plugin import Crops, SpatialPrediction, SPConfig
from sp_plugin.features.extraction import extract_features


class CostLowerBound:
    """The parts of a step with SP, each of them alone.

    Args:
        case: training run that SP is added to.
        settings: device and precision.
        method: method of that run, with a backbone for this object alone.
        sp: settings of SP.

    Attributes:
        crop_size: side of the crops, in pixels.
        share: images that SP sees, as a share of the batch.
    """

    def __init__(
        self, case: Case, settings: SpeedSettings, method: Method, sp: dict[str, object]
    ) -> None:
        self._settings = settings
        self._backbone = method.backbone.to(settings.target).train()
        shape = (case.batch_size, 3, case.side, case.side)
        self._images = _channels_last(torch.rand(shape), settings.target)
        config = SPConfig.from_dict(sp)
        self._sp = SpatialPrediction.from_backbone(self._backbone, self._images, config)
        self.crop_size = self._sp.config.crop_size
        self._generator = torch.Generator().manual_seed(0)
        self._step = 0
        crops = self.sample_crops()
        self.share = crops.boxes.shape[1] / case.batch_size
        self._crops = _channels_last(crops.pixels, settings.target)
        self._given_features = _GivenFeatures(
            self._backbone, len(self._crops), self._sp.feature_dim
        )
        self._sp.layout = None  # of the backbone's output, which the given features are not

    def run_crops(self) -> None:
        """Forward and backward pass of the crops through the backbone, and nothing else."""
        with self._autocast():
            features = extract_features(self._backbone, self._crops)
        features.float().square().mean().backward()
        self._backbone.zero_grad(set_to_none=True)

    def run_parts(self) -> None:
        """Sampling, cropping, guards, targets, head and loss, with given features."""
        with self._autocast():
            out = self._sp(self._given_features, self._images, step=self._step)
        out.loss.backward()
        self._sp.zero_grad(set_to_none=True)
        self._step += 1

    def sample_crops(self) -> Crops:
        """Of these parts, sampling and cropping alone."""
        images = self._sp.prepare_images(self._images, self._step)
        assert isinstance(images, Tensor)  # as the source is a view
        return self._sp.sample_crops(images, self._generator)

    def _autocast(self) -> torch.autocast:
        half = self._settings.precision == "bf16-mixed"
        return torch.autocast(self._settings.device, torch.bfloat16, enabled=half)


class _GivenFeatures(nn.Module):
    """Stands for a backbone that costs nothing; it holds the real one, whose buffers SP guards."""

    def __init__(self, backbone: nn.Module, rows: int, width: int) -> None:
        super().__init__()
        self.guarded = backbone
        device = next(backbone.parameters()).device
        self.features = nn.Parameter(torch.randn(rows, width, device=device))

    def forward(self, crops: Tensor) -> Tensor:
        return self.features * 1.0


def _channels_last(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device, memory_format=torch.channels_last)


def count_lower_bound(
    host_step: Callable[[], object], crops: Callable[[], object]
) -> dict[str, float]:
    """Lower bound of the step ratio by counted operations, forward and backward.

    Args:
        host_step: function that makes one step of the host alone.
        crops: function that runs the crops forward and backward.

    Returns:
        ``host`` and ``crops``, FLOPs, and ``lower_bound``, 1 + crops / host.

    >>> product = lambda n: lambda: torch.zeros(n, 4) @ torch.zeros(4, 8)
    >>> count_lower_bound(product(4), product(2))
    {'host': 256.0, 'crops': 128.0, 'lower_bound': 1.5}
    """
    flops = {"host": count_flops(host_step), "crops": count_flops(crops)}
    return {**flops, "lower_bound": 1 + flops["crops"] / flops["host"]}
