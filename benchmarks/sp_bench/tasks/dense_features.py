"""Feature maps of whole images, and the values of their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.channel_stats import to_tensor
from sp_bench.data.dense_dataset import DenseDataset
from sp_bench.data.image_kind import convert_channels
from sp_bench.frozen_backbone import (
    FrozenBackbone,
    UnmeasurableError,
    float_parameter,
    square_side,
    unchanged,
)
from sp_bench.tasks.task import subsample
from sp_plugin.crops.images import image_size
from sp_plugin.features.extraction import extract_feature_map
from sp_plugin.features.input_size import find_input_size
from sp_plugin.validation import ConfigError

MAX_IMAGES = 1000  # each has a feature map in memory
_MAX_SIDE = 224  # pixels
_BATCH = 64  # images


@dataclass(frozen=True)
class DenseFeatures:
    """Feature maps of a subset of images, and access to the values of their pixels.

    Attributes:
        maps: (m, D, h, w), float32, on the CPU.
        indices: (m,) positions of the images in the data set.
        dataset: images with values.
    """

    maps: Tensor
    indices: Tensor
    dataset: DenseDataset

    def values(self, row: int) -> np.ndarray:
        """Values of the image at a row of ``maps``, (H, W), at the size of the image."""
        return self.dataset.values(int(self.indices[row]))

    def thinned_values(self, max_side: int) -> Tensor:
        """Values of all images, (m, h, w), reduced to ``max_side`` pixels to fit a probe on.

        One pixel of each square is taken, not a mean: a mean of two classes would be a third.
        """
        height, width = self.values(0).shape
        scale = min(1.0, max_side / max(height, width))
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        thinned = []
        for row in range(len(self.indices)):
            values = self.values(row)
            rows = ((np.arange(h) + 0.5) / h * values.shape[0]).astype(int)
            columns = ((np.arange(w) + 0.5) / w * values.shape[1]).astype(int)
            thinned.append(torch.from_numpy(np.ascontiguousarray(values[rows][:, columns])))
        return torch.stack(thinned)


def dense_features(
    backbone: FrozenBackbone, train: DenseDataset, test: DenseDataset
) -> tuple[DenseFeatures, DenseFeatures]:
    """Feature maps of at most 1,000 images of each split, all of one size.

    Images are resized to a square as a whole, so that nothing is cut off: to the longer side of the
    first training image, 224 px at most, or to the size that the backbone takes.

    Raises:
        UnmeasurableError: no layer of the backbone outputs a map.
    """
    preferred = min(_MAX_SIDE, max(image_size(train.source[0][0])))
    spec = find_input_size(
        backbone.backbone,
        preferred,
        backbone.pool,
        backbone.layer,
        in_training=False,
        channels=backbone.stats.channels,
    )
    side = square_side(spec.input_size)
    return _features_of(backbone, train, side), _features_of(backbone, test, side)


def _features_of(backbone: FrozenBackbone, dataset: DenseDataset, side: int) -> DenseFeatures:
    indices = subsample(len(dataset), MAX_IMAGES)

    def compute() -> Tensor:
        layer = backbone.layer or find_map_layer(backbone, side)
        batches = torch.split(indices, _BATCH)
        squares = (_squares(dataset, batch, side, backbone.stats.channels) for batch in batches)
        return torch.cat([backbone.extract_maps(images, layer) for images in squares])

    maps = backbone.cached(dataset.source, f"maps of {side} px", compute)
    return DenseFeatures(maps, indices, dataset)


def find_map_layer(backbone: FrozenBackbone, side: int) -> str | None:
    """Layer to take the map from: None for the output, else the last layer that outputs a map.

    torchvision's ResNets pool their last map; its layer is in ``layer4``.

    Raises:
        UnmeasurableError: no layer outputs a map.
    """
    like = float_parameter(backbone.backbone, torch.zeros(0))
    image = torch.zeros(1, backbone.stats.channels, side, side).to(like)
    with unchanged(backbone.backbone, backbone.device):
        try:
            extract_feature_map(backbone.backbone, image)
            return None
        except ConfigError:
            layer = _last_map_layer(backbone.backbone, image)
    if layer is None:
        raise UnmeasurableError("layer: no layer of the backbone gives a map; name one")
    return layer


def _last_map_layer(backbone: nn.Module, image: Tensor) -> str | None:
    """Last submodule whose output is a map; one of a single position, if no map has more.

    Layers after global pooling give such maps.
    """
    outputs: dict[str, Tensor] = {}

    def make_hook(name: str) -> object:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                outputs.pop(name, None)
                outputs[name] = output

        return hook

    modules = [(name, module) for name, module in backbone.named_modules() if name]
    handles = [module.register_forward_hook(make_hook(name)) for name, module in modules]
    try:
        backbone(image)
    finally:
        for handle in handles:
            handle.remove()
    # Axis 2 is one of space in (B, C, h, w) and in (B, h, w, C).
    layers = [name for name, output in outputs.items() if output.shape[2] > 1] or list(outputs)
    return layers[-1] if layers else None


def _squares(dataset: DenseDataset, indices: Tensor, side: int, channels: int) -> Tensor:
    images = (convert_channels(dataset.image(index), channels) for index in indices.tolist())
    return torch.stack([to_tensor(image_ops.resize(image, [side, side])) for image in images])
