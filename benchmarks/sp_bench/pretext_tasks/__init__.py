"""Pretext tasks of the SP arm, by the name that ``pretext`` takes: SP, and peers instead of it.

Each is a `SpatialPrediction`, so that it is added to a method, warmed up and isolated in the same
way.
"""

from sp_bench.pretext_tasks.augself import AugSelfCrops
from sp_bench.pretext_tasks.callback import PretextCallback
from sp_bench.pretext_tasks.masked_crops import MaskedCrops
from sp_bench.pretext_tasks.relative_location import RelativeLocation
from sp_bench.pretext_tasks.shuffled_targets import ShuffledTargets
from sp_plugin import SpatialPrediction

PRETEXTS: dict[str, type[SpatialPrediction]] = {
    "sp": SpatialPrediction,
    "augself": AugSelfCrops,
    "masked_crops": MaskedCrops,
    "relative_location": RelativeLocation,
    "shuffled_targets": ShuffledTargets,
}

__all__ = [
    "PRETEXTS",
    "AugSelfCrops",
    "MaskedCrops",
    "PretextCallback",
    "RelativeLocation",
    "ShuffledTargets",
]
