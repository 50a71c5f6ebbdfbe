"""Features place by place, of whole images, and the values that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.dense_dataset import DenseDataset
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.tasks import subsample
from sp_plugin.features.extraction import extract_feature_map
from sp_plugin.features.input_size import find_input_size
from sp_plugin.isolation import eval_mode, frozen_running_stats, private_rng
from sp_plugin.validation import ConfigError

MOST = 1000  # images: each has a map of features in memory
_LARGEST = 224  # pixels


@dataclass(frozen=True)
class Maps:
    """Features of some images and where to find their values.

    Attributes:
        features: (m, D, h, w), float32, on the CPU.
        few: (m,), which images.
        images: the set.
    """

    features: Tensor
    few: Tensor
    images: DenseDataset


def dense_maps(backbone: FrozenBackbone, images: DenseDataset) -> Maps:
    """Features of images place by place, at most 1,000 of them.

    Images are shown whole, made square (so that nothing is cut off), as large as they are and
    224 px at most, or as large as the backbone takes.

    Raises:
        UnmeasurableError: no layer of the backbone gives a map.
    """
    few = subsample(len(images), MOST)
    source = images.source
    wanted = min(_LARGEST, max(source[0][0].size))
    side = find_input_size(backbone.backbone, wanted, backbone.pool, backbone.layer).input_size

    def make() -> Tensor:
        layer = backbone.layer or map_layer(backbone, side)
        batches = [
            backbone.encode_maps(_squares(images, part, side), layer)
            for part in torch.split(few, 64)
        ]
        return torch.cat(batches)

    return Maps(backbone.cached(source, "maps", make), few, images)


def map_layer(backbone: FrozenBackbone, side: int) -> str | None:
    """The layer to take the map from: None for the output, else the last that gives a map.

    torchvision's ResNets pool their last map; what ``layer4`` gave is what is wanted of them.
    """
    images = torch.zeros(1, 3, side, side).to(next(backbone.backbone.parameters(), torch.zeros(0)))
    quiet = frozen_running_stats(backbone.backbone)
    with eval_mode(backbone.backbone), quiet, private_rng(0, backbone.device):
        try:
            extract_feature_map(backbone.backbone, images)
            return None
        except ConfigError:
            found = _last_map(backbone.backbone, images)
    if found is None:
        raise UnmeasurableError("layer: no layer of the backbone gives a map; name one")
    return found


def _last_map(backbone: nn.Module, images: Tensor) -> str | None:
    given: list[str] = []

    def keep(name: str) -> object:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and not _pooled(output, name):
                given.append(name)

        return hook

    def _pooled(output: Tensor, name: str) -> bool:
        return output.shape[-1] == 1 and "pool" in name.lower()

    handles = [
        part.register_forward_hook(keep(name)) for name, part in backbone.named_modules() if name
    ]
    try:
        backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    return given[-1] if given else None


def values_of(maps: Maps, index: int) -> np.ndarray:
    """The values of the image at a place in ``few``, as large as the image."""
    return maps.images.values(int(maps.few[index]))


def thinned(maps: Maps, most: int) -> Tensor:
    """The values of all images, thinned to ``most`` pixels a side to fit a probe on.

    Of a square of pixels one is taken, never a mean: between two classes there is no third.

    Returns:
        (m, h, w), one size for all images.
    """
    first = values_of(maps, 0).shape
    scale = min(1.0, most / max(first))
    h, w = max(1, round(first[0] * scale)), max(1, round(first[1] * scale))
    out = []
    for index in range(len(maps.few)):
        values = values_of(maps, index)
        rows = ((np.arange(h) + 0.5) / h * values.shape[0]).astype(int)
        columns = ((np.arange(w) + 0.5) / w * values.shape[1]).astype(int)
        out.append(torch.from_numpy(np.ascontiguousarray(values[rows][:, columns])))
    return torch.stack(out)


def _squares(images: DenseDataset, few: Tensor, side: int) -> Tensor:
    shown = [images.image(index) for index in few.tolist()]
    return torch.stack(
        [image_ops.pil_to_tensor(image_ops.resize(image, [side, side])) for image in shown]
    )
