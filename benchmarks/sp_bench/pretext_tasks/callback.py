"""The callback that adds SP, or a peer instead of it, to a method of the benchmark."""

from __future__ import annotations

import dataclasses
from typing import Any

from sp_lightning import SPCallback

from sp_plugin import SpatialPrediction, SPConfig


class PretextCallback(SPCallback):
    """`SPCallback` with any pretext task of this package.

    Args:
        pretext: class of the pretext task.
        settings: settings of SP; a peer uses weight, warm-up, cool-down and the head's width.
        seed: seed of the head's weights and of all draws.
    """

    def __init__(
        self, pretext: type[SpatialPrediction], settings: dict[str, Any], seed: int
    ) -> None:
        config = SPConfig.from_dict(settings, seed=seed)
        source = getattr(pretext, "source", None)
        if source is not None:
            config = dataclasses.replace(config, source=source)
        super().__init__("backbone", config)
        self.sp_class = pretext
