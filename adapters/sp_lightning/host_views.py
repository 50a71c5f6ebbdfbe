"""source="host_views": SP asks about the views that the module makes and encodes itself."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from sp_lightning.data import TransformPatcher
from sp_plugin import ConfigError, SpatialPrediction, SPConfig
from sp_plugin.views.capture import EncodedViews, FeatureCapture
from sp_plugin.views.transform import ViewBoxes, ViewBoxTransform, find_views

log = logging.getLogger("sp_plugin")


class HostViews:
    """Where the views lie, from the data's transforms; their embeddings, from the student.

    Both are watched on their instances while the module is fitted. ``remove()`` undoes it.

    Args:
        trainer: fitting, with its data attached.
        config: settings of SP.
    """

    def __init__(self, trainer: Any, config: SPConfig) -> None:
        self._config = config
        self._watch: FeatureCapture | None = None
        self._on: list[ViewBoxTransform] = []
        self._drawn: Tensor | None = None
        self._measured = False
        self._data = TransformPatcher(trainer, self._follow)

    def _follow(self, transform: Any) -> ViewBoxTransform:
        if isinstance(transform, ViewBoxTransform):
            views = transform
        else:
            views = ViewBoxTransform(transform)
            self._on.append(views)
        if self._drawn is None:
            self._drawn = views.sample_boxes()
        return views

    def attach(self, backbone: nn.Module) -> None:
        """Watch this student."""
        self._watch = FeatureCapture(backbone, self._config.pool, self._config.layer)

    def remove(self) -> None:
        if self._watch is not None:
            self._watch.remove()
        self._data.remove()
        for views in reversed(self._on):
            views.remove()

    def step(self) -> AbstractContextManager[None]:
        """Around the host's training step, in which its student encodes."""
        assert self._watch is not None
        return self._watch.step()

    def asked_about(self, batch: Any, places: ViewBoxes, sp: SpatialPrediction) -> EncodedViews:
        """What SP takes in this step; in the first one it takes the measure of the targets too."""
        assert self._watch is not None
        encoded = self._watch.collect(find_views(batch), places)
        if not self._measured:
            self._measured = True
            self._measure(sp, len(places.boxes), self._watch.views)
        return encoded

    def _measure(self, sp: SpatialPrediction, count: int, chosen: list[int]) -> None:
        if self._drawn is None:
            log.warning("SP: no data set's transform was found to measure targets by")
        elif self._drawn.shape[1] == count:
            sp.calibrate_targets(self._drawn[:, chosen])
        else:
            raise ConfigError(
                "source: got 'host_views', but a function of the data set's transform makes views out of "
                "sight; take 'view' or 'image'"
            )
