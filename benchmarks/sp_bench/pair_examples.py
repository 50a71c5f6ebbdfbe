"""Examples of pairs on held-out images, with the answers of SP's head before and after training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sp_bench.config import Settings
from sp_bench.data import Splits
from sp_bench.data.channel_stats import to_unit
from sp_bench.data.rgb_display import RGBDisplay
from sp_bench.frozen_backbone import stack_squares
from sp_bench.method_evaluation import freeze_method
from sp_bench.methods import Method
from sp_bench.pretrain import new_method
from sp_bench.report.prediction_figure import PairExamples
from sp_plugin import SpatialPrediction
from sp_plugin.isolation import hash_seed, make_generator

_SHOWN = 5
_DRAWN_SIDE = 96  # pixels at least, for the reader's eyes
_PREDICTED = 240  # batch statistics need more images than are shown


def predict_examples(
    settings: Settings, method: Method, sp: SpatialPrediction, splits: Splits
) -> PairExamples:
    """One pair of crops in each of up to five test images, and the head's answers to it.

    The head runs as in training: whole images take the place of views, and BatchNorm uses the
    crops' own statistics, since its running ones are those of the views. The answers before
    training are those of the weights that the run began with.

    Args:
        settings: settings of the comparison.
        method: method whose backbone encodes the crops; it moves to the device of ``sp``.
        sp: trained SP.
        splits: images; the test images are used.
    """
    count = len(splits.test)
    indices = torch.linspace(0, count - 1, min(_PREDICTED, count)).long()
    images = freeze_method(settings, method).images(splits.test)[indices]
    device = sp.targets.std.device
    views = settings.stats.normalize(to_unit(images)).to(device)
    beginning = new_method(settings, sp.config.seed).backbone
    untrained = type(sp).from_backbone(beginning, views[:2].cpu(), sp.config).to(device)
    answer_before, *_ = _answer(untrained, beginning.to(device), views)
    answer, a, b = _answer(sp, method.backbone.to(device), views)
    # The first rows are those of the first pair of each image's crops.
    first = slice(None, len(images))
    every = max(1, len(images) // _SHOWN)
    shown = [splits.test[index] for index in indices[::every][:_SHOWN].tolist()]
    side = max(settings.side, _DRAWN_SIDE)
    drawn = stack_squares(side, settings.stats.channels, shown)
    truth = sp.targets.encode(a, b)
    answers = torch.stack([x[first].cpu() for x in (truth, answer_before, answer)])
    a, b, after, before = (
        x[first][::every][:_SHOWN].cpu()
        for x in (a, b, sp.targets.decode(answer, a), sp.targets.decode(answer_before, a))
    )
    drawn = RGBDisplay.fit(drawn, settings.rgb).to_uint8(drawn)
    return PairExamples(drawn, a, b, after, untrained=before, answers=answers)


@torch.no_grad()
def _answer(
    sp: SpatialPrediction, backbone: nn.Module, views: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The head's answers (P, 3) for the pairs of crops of views, and the pairs' boxes (P, 4)."""
    # In parts, as a step of training would look at a part of the images alone (sample_fraction).
    key = (sp.config.seed, 0, 0)
    crops = sp.sample_crops(views, make_generator(*key))
    encoded = sp.encode_crops(backbone.train(), crops, hash_seed(*key), needs_gradient=False)
    output = sp.pair_loss(encoded.features, crops.boxes, step=0)
    a, b = output.boxes
    return output.prediction, a, b
