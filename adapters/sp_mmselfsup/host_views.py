"""``source="host_views"``: SP asks about the views that the algorithm encodes itself."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

from mmengine.logging import print_log
from torch import nn

from sp_mmselfsup.batch import view_boxes_from_samples
from sp_mmselfsup.view_boxes_transform import SPViewBoxes
from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.views.capture import EncodedViews, FeatureCapture


class HostViews:
    """The embeddings of an algorithm's views, as its backbone gives them in its own loss.

    Args:
        backbone: of the algorithm, its student.
        config: settings of SP.
    """

    def __init__(self, backbone: nn.Module, config: SPConfig) -> None:
        self._watch = FeatureCapture(backbone, config.pool, config.layer)
        self._measured = False

    def step(self) -> AbstractContextManager[None]:
        """Around the algorithm's own loss, in which its backbone encodes."""
        return self._watch.step()

    def asked_about(self, inputs: Any, data_samples: Any, sp: SpatialPrediction) -> EncodedViews:
        """What SP takes in this step; in the first one it takes the measure of the targets too.

        Args:
            inputs: what the algorithm's loss was given: its views (B, 3, H, W) in a list.
            data_samples: with the places that `SPViewBoxes` found.
            sp: of the algorithm.

        Raises:
            ConfigError: no places came with the data; or, in the first step, a backbone that
                encodes no two views of one size.
        """
        views = inputs if isinstance(inputs, list) else [inputs]
        encoded = self._watch.collect(views, view_boxes_from_samples(data_samples))
        if not self._measured:
            self._measured = True
            self._measure(sp)
            side = min(views[self._watch.views[0]].shape[-2:])
            told = f"{sp.config.describe_weight()}, {len(encoded.boxes)} views of {side} px"
            print_log(f"SP is on: {told} of the host", logger="current")
        return encoded

    def _measure(self, sp: SpatialPrediction) -> None:
        pipeline = SPViewBoxes.of_this_run()
        if pipeline is not None:
            sp.calibrate_targets(pipeline.sample_boxes()[:, self._watch.views])
            return
        told = "SP: the data loader was built before the Runner: targets have another measure"
        print_log(told, logger="current", level=logging.WARNING)
