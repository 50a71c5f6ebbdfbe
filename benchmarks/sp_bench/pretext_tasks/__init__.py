"""What may stand in SP's place in a comparison, by the name that ``pretext`` takes.

Each is a `SpatialPrediction` that asks something else: so it is added to a method in the same way,
is warmed up alike, and leaves the same things untouched.
"""

from sp_bench.pretext_tasks.augself import AugSelfCrops
from sp_bench.pretext_tasks.callback import PretextCallback
from sp_bench.pretext_tasks.relative_location import RelativeLocation
from sp_plugin import SpatialPrediction

PRETEXTS: dict[str, type[SpatialPrediction]] = {
    "sp": SpatialPrediction,
    "augself": AugSelfCrops,
    "relative_location": RelativeLocation,
}

__all__ = ["PRETEXTS", "AugSelfCrops", "PretextCallback", "RelativeLocation"]
