"""Spatial Prediction: spatial understanding for self-supervised pre-training, as a plug-in.

>>> from sp_plugin import SpatialPrediction, SPConfig
"""

from sp_plugin.config import SPConfig
from sp_plugin.crops.resize import crop_resize
from sp_plugin.crops.sampler import CropSampler
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.loss import SPLoss
from sp_plugin.objective.pair_loss import SPOutput
from sp_plugin.objective.targets import TargetEncoder
from sp_plugin.spatial_prediction import SpatialPrediction
from sp_plugin.structures import Crops
from sp_plugin.validation import ConfigError

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "CropSampler",
    "Crops",
    "SPConfig",
    "SPHead",
    "SPLoss",
    "SPOutput",
    "SpatialPrediction",
    "TargetEncoder",
    "crop_resize",
]
