"""Spatial Prediction: spatial understanding for self-supervised pre-training, as a plug-in.

>>> from sp_plugin import SpatialPrediction, SPConfig
"""

from sp_plugin.checks import ConfigError
from sp_plugin.comparison import SPOutput
from sp_plugin.config import SPConfig
from sp_plugin.cropping import crop_resize
from sp_plugin.crops import Crops
from sp_plugin.head import SPHead
from sp_plugin.loss import SPLoss
from sp_plugin.sampling import CropSampler
from sp_plugin.spatial_prediction import SpatialPrediction
from sp_plugin.targets import TargetEncoder

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
