"""What a pre-trained backbone is worth: the tasks, and pictures of what SP's head has learnt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sp_bench.data import Splits
from sp_bench.features import FrozenBackbone
from sp_bench.methods import Method
from sp_bench.pretrain import new_method
from sp_bench.report.examples import PairExamples
from sp_bench.settings import Settings
from sp_bench.tasks import EVALUATION_SEED, Subject, Task, measure
from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.isolation import generator_for

_EXAMPLES = 12


def evaluate(
    settings: Settings, method: Method, seed: int, splits: Splits, tasks: Sequence[Task]
) -> dict[str, float]:
    """Figures of every task, by key, for a method's backbone."""
    subject = Subject(
        backbone=frozen(settings, method),
        untrained=frozen(settings, new_method(settings, seed)),
        splits=splits,
        seed=seed,
    )
    figures: dict[str, float] = {}
    for task in tasks:
        figures |= measure(task, subject)
    return figures


def frozen(settings: Settings, method: Method) -> FrozenBackbone:
    """The method's backbone as tasks see it: whole pictures as large as the views it knows."""
    has_class_token = getattr(method.backbone, "num_prefix_tokens", 0) > 0
    return FrozenBackbone(
        method.backbone,
        side=settings.side,
        crop=SPConfig.build(settings.sp).resolve(settings.side).size,
        pool=method.pool if has_class_token else "mean",
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


@torch.no_grad()
def examples(
    settings: Settings, method: Method, sp: SpatialPrediction, splits: Splits
) -> PairExamples:
    """One pair of crops in each of some held-out pictures, and what SP's head says of it.

    The head is asked as in training: on whole pictures that stand for the host's view.
    """
    subject = frozen(settings, method)
    shown = subject.pictures(splits.test)
    spread = torch.linspace(0, len(shown) - 1, min(_EXAMPLES, len(shown))).long()
    pictures = shown[spread]
    boxes, crops = sp.draw(pictures.float() / 255, generator_for(EVALUATION_SEED))
    pooled = FrozenBackbone(
        method.backbone,
        side=settings.side,
        crop=sp.config.size,
        pool=sp.config.pool,
        layer=sp.config.layer,
        device=subject.device,
    )
    features = pooled.encode(crops).to(sp.targets.scale.device)
    prediction = sp.head(*features.chunk(2))
    decoded = sp.targets.decode(prediction, boxes[0].to(prediction.device)).cpu()
    return PairExamples(pictures, boxes[0].cpu(), boxes[1].cpu(), decoded)
