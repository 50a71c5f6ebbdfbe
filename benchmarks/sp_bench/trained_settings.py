"""Settings with which sp-bench trained a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sp_bench.data.channel_stats import IMAGENET, ChannelStats


def side_of_run(checkpoint: Path) -> int | None:
    """Side of the views with which sp-bench trained a checkpoint; None for other checkpoints.

    ``compare`` writes its settings above the folders of its runs, ``suite`` into them.
    """
    side = _settings_of_run(checkpoint).get("side")
    return int(side) if isinstance(side, int) else None


def stats_of_run(checkpoint: Path) -> ChannelStats | None:
    """Statistics of the channels with which sp-bench trained a checkpoint; None for others."""
    settings = _settings_of_run(checkpoint)
    if not settings:
        return None
    if not settings.get("mean"):
        return IMAGENET
    return ChannelStats(tuple(settings["mean"]), tuple(settings["std"]))


def _settings_of_run(checkpoint: Path) -> dict[str, Any]:
    """Settings with which sp-bench trained a checkpoint; empty for others."""
    for folder in checkpoint.parents[:2]:
        path = folder / "settings.json"
        settings = dict(json.loads(path.read_text())) if path.is_file() else {}
        if "method" in settings:
            return settings
    return {}
