"""Examples of pairs on held-out images, with the predictions of SP's head."""

from __future__ import annotations

import torch

from sp_bench.config import Settings
from sp_bench.data import Splits
from sp_bench.data.channel_stats import to_unit
from sp_bench.data.rgb_display import RGBDisplay
from sp_bench.evaluation import freeze_method
from sp_bench.methods import Method
from sp_bench.report.prediction_figure import PairExamples
from sp_plugin import SpatialPrediction
from sp_plugin.isolation import hash_seed, make_generator

_SHOWN = 12
_PREDICTED = 240  # batch statistics need more images than are shown


@torch.no_grad()
def predict_examples(
    settings: Settings, method: Method, sp: SpatialPrediction, splits: Splits
) -> PairExamples:
    """One pair of crops in each of up to 12 test images, and the head's prediction of it.

    The head runs as in training: whole images take the place of views, and BatchNorm uses the
    crops' own statistics, since its running ones are those of the views.

    Args:
        settings: settings of the comparison.
        method: method whose backbone encodes the crops; it moves to the device of ``sp``.
        sp: trained SP.
        splits: images; the test images are used.
    """
    images = freeze_method(settings, method).images(splits.test)
    indices = torch.linspace(0, len(images) - 1, min(_PREDICTED, len(images))).long()
    images = images[indices]
    views = settings.stats.normalize(to_unit(images))
    device = sp.targets.std.device
    # In parts, as a step of training would look at a part of the images alone (sample_fraction).
    key = (sp.config.seed, 0, 0)
    crops = sp.sample_crops(views.to(device), make_generator(*key))
    backbone = method.backbone.to(device).train()
    encoded = sp.encode_crops(backbone, crops, hash_seed(*key), needs_gradient=False)
    output = sp.pair_loss(encoded.features, crops.boxes, step=0)
    a, b = output.boxes
    predicted = sp.targets.decode(output.prediction, a)
    # The first rows are those of the first pair of each image's crops.
    shown = slice(None, len(images), max(1, len(images) // _SHOWN))
    boxes = [box[shown][:_SHOWN].cpu() for box in (a, b, predicted)]
    drawn = images[shown][:_SHOWN]
    return PairExamples(RGBDisplay.fit(drawn, settings.rgb).to_uint8(drawn), *boxes)
