"""Spatial Prediction: spatial understanding for self-supervised pre-training, as a plug-in.

>>> from sp_plugin import SpatialPrediction, SPConfig
"""

from sp_plugin.checks import ConfigError
from sp_plugin.config import SPConfig
from sp_plugin.cropping import crop_resize
from sp_plugin.head import SPHead
from sp_plugin.loss import SPLoss
from sp_plugin.pairs import Pairs
from sp_plugin.sampling import PairSampler
from sp_plugin.spatial_prediction import SpatialPrediction, SPOutput
from sp_plugin.targets import TargetEncoder

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "PairSampler",
    "Pairs",
    "SPConfig",
    "SPHead",
    "SPLoss",
    "SPOutput",
    "SpatialPrediction",
    "TargetEncoder",
    "crop_resize",
]
