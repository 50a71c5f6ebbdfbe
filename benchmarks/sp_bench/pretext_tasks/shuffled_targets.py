"""Shuffled targets: SP with nothing to learn, the control of what its crops and passes do alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sp_plugin import SpatialPrediction, SPOutput


class ShuffledTargets(SpatialPrediction):
    """`SpatialPrediction` whose targets are those of the next image in the batch.

    Crops, passes through the backbone, head and cost are SP's. How the crops of one image lie is
    independent of those of another, so the features predict nothing of the targets.

    Args:
        feature_dim: width D of the backbone's pooled features.
        config, feature_fn: as for SP.
    """

    def pair_loss(
        self, features: Tensor, boxes: Tensor, flips: Tensor | None = None, **keys: Any
    ) -> SPOutput:
        """SP's loss with the boxes, and flips, of the next image.

        Args:
            features: (k, B, D), pooled features of k crops of each image.
            boxes: (k, B, 4), boxes of these crops.
            flips: (k, B, 2), as for SP.
            **keys: ``step`` and ``rank``, as for SP.
        """
        flips = None if flips is None else flips.roll(1, dims=1)
        return super().pair_loss(features, boxes.roll(1, dims=1), flips, **keys)
