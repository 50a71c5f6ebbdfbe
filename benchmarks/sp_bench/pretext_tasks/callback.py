"""The callback that adds SP, or a peer in its place, to a method of the benchmark."""

from __future__ import annotations

import dataclasses
from typing import Any

from sp_lightning import SPCallback

from sp_plugin import SpatialPrediction, SPConfig


class PretextCallback(SPCallback):
    """`SPCallback` with another pretext task in SP's place.

    Args:
        pretext: what is put beside the method.
        settings: of SP; a peer takes its weight, warm-up, decay and the head's width from them.
        seed: of the head's weights and of all that is drawn.
    """

    def __init__(
        self, pretext: type[SpatialPrediction], settings: dict[str, Any], seed: int
    ) -> None:
        source = getattr(pretext, "source", None)
        config = SPConfig.from_dict(settings, seed=seed)
        if source is not None:
            config = dataclasses.replace(config, source=source)
        super().__init__("backbone", config)
        self.module = pretext
