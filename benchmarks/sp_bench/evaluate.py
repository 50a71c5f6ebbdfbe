"""What a pre-trained backbone is worth: the tasks, and images of what SP's head has learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lightly.transforms.utils import IMAGENET_NORMALIZE
from torchvision.transforms.v2.functional import normalize

from sp_bench.config import Settings
from sp_bench.data import Splits
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.methods import Method
from sp_bench.pretrain import new_method
from sp_bench.report.prediction_figure import PairExamples
from sp_bench.task_data import Sources
from sp_bench.task_runner import all_figures, answered
from sp_bench.tasks import Task, TaskContext
from sp_plugin import SpatialPrediction, SPConfig

_SHOWN, _ASKED = 12, 240  # statistics of a batch take more than are shown


def evaluate(
    settings: Settings,
    method: Method,
    seed: int,
    sources: Sources,
    tasks: Sequence[Task],
    folder: Path,
    tell: Callable[[str], None],
) -> dict[str, float]:
    """Figures of every task, by key, for a method's backbone; each is kept in the run's folder."""
    pair = frozen(settings, method), frozen(settings, new_method(settings, seed))

    def subject(task: Task) -> TaskContext:
        return TaskContext(*pair, sources.of(task), seed)

    return all_figures(answered(tasks, subject, folder, tell))


def frozen(settings: Settings, method: Method) -> FrozenBackbone:
    """The method's backbone as tasks see it: whole images as large as the views it knows."""
    has_class_token = getattr(method.backbone, "num_prefix_tokens", 0) > 0
    return FrozenBackbone(
        method.backbone,
        side=settings.side,
        crop=SPConfig.from_dict(settings.sp).resolve(settings.side).crop_size,
        pool=method.pool if has_class_token else "mean",
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


@torch.no_grad()
def examples(
    settings: Settings, method: Method, sp: SpatialPrediction, splits: Splits
) -> PairExamples:
    """One pair of crops in each of some held-out images, and what SP's head says of it.

    The head is asked as in training: whole images stand for the host's view, and a BatchNorm
    takes the crops' own statistics, since the running ones are those of the host's views.
    """
    shown = frozen(settings, method).images(splits.test)
    spread = torch.linspace(0, len(shown) - 1, min(_ASKED, len(shown))).long()
    images = shown[spread]
    views = normalize(images.float() / 255, **IMAGENET_NORMALIZE)
    device = sp.targets.std.device
    told = sp(method.backbone.to(device).train(), views.to(device), step=0)
    a, b = told.boxes
    decoded = sp.targets.decode(told.prediction, a)
    # The first rows are of the first pair of each image's crops.
    few = slice(None, len(images), max(1, len(images) // _SHOWN))
    boxes = [box[few][:_SHOWN].cpu() for box in (a, b, decoded)]
    return PairExamples(images[few][:_SHOWN], *boxes)
