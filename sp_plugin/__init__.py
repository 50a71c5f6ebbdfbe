"""Spatial Prediction: spatial understanding for self-supervised pre-training, as a plug-in.

>>> from sp_plugin import SPConfig, SPSession
"""

from typing import TYPE_CHECKING, Any

from sp_plugin.config import SPConfig
from sp_plugin.crops.resize import crop_resize
from sp_plugin.crops.sampler import CropSampler
from sp_plugin.nonfinite_steps import Replay, replay
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.loss import SPLoss
from sp_plugin.objective.targets import TARGET_ENCODINGS, TargetEncoder, TargetEncoding
from sp_plugin.session import SPSession
from sp_plugin.spatial_prediction import SpatialPrediction
from sp_plugin.spatial_probe import SpatialProbe
from sp_plugin.structures import Crops, EncodedViews, SPOutput, ViewBoxes
from sp_plugin.validation import ConfigError
from sp_plugin.views.transform import ViewBoxTransform

if TYPE_CHECKING:
    from sp_plugin.crops.transform import ImageCrops, SPTransform

__version__ = "0.1.0"

__all__ = [
    "TARGET_ENCODINGS",
    "ConfigError",
    "CropSampler",
    "Crops",
    "EncodedViews",
    "ImageCrops",
    "Replay",
    "SPConfig",
    "SPHead",
    "SPLoss",
    "SPOutput",
    "SPSession",
    "SPTransform",
    "SpatialPrediction",
    "SpatialProbe",
    "TargetEncoder",
    "TargetEncoding",
    "ViewBoxTransform",
    "ViewBoxes",
    "crop_resize",
    "replay",
]


def __getattr__(name: str) -> Any:
    if name in ("ImageCrops", "SPTransform"):  # need torchvision, which is slow to import
        from sp_plugin.crops import transform

        return getattr(transform, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
