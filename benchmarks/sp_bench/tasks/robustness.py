"""Robustness: what is left of the linear probe on corrupted images it was not fitted on.

Accuracy is the mean over 15 corruptions at 5 severities (Hendrycks and Dietterich, ICLR 2019).
Their mCE is relative to a network of theirs, and is not given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.corruptions import FAMILIES, NAMES, corrupt
from sp_bench.corruptions.cifar_c import CorruptedFiles
from sp_bench.corruptions.severities import SEVERITIES
from sp_bench.data.dataset import DataError, Splits
from sp_bench.results import MetricSpec
from sp_bench.tasks import EVALUATION_SEED, Task, TaskContext, same_or_given, subsample
from sp_bench.tasks.linear import probe_of

# 75 times as many are encoded; 1,000 tell an accuracy to 1.5 points, a difference of two
# backbones on the same images to less.
_PICTURES = 1000

Corrupted = Callable[[str, int], Tensor]


def _figures() -> tuple[MetricSpec, ...]:
    families = [
        MetricSpec(f"robustness_{family}", f"robustness: {family} (top-1)", percent=True)
        for family in FAMILIES
    ]
    single = [
        MetricSpec(
            f"robustness_{name}", f"robustness: {name} (top-1)", percent=True, headline=False
        )
        for name in NAMES
    ]
    return (
        MetricSpec("robustness", "robustness: mean of 15 corruptions (top-1)", percent=True),
        MetricSpec("robustness_relative", "robustness: relative to clean", percent=True),
        *families,
        MetricSpec("robustness_clean", "robustness: clean (top-1)", percent=True, headline=False),
        MetricSpec(
            "robustness_chance",
            "robustness: most frequent class",
            percent=True,
            headline=False,
        ),
        *single,
    )


@dataclass(frozen=True)
class WithFiles(Splits):
    """Clean images, and corrupted ones from files.

    Attributes:
        files: the corrupted ones.
    """

    files: CorruptedFiles | None = None


def load(given: str | None, main: Splits | None) -> Splits:
    """Images to corrupt, or a folder of corrupted ones beside those of all tasks."""
    folder = Path(given).expanduser() if given else None
    if folder is None or not (folder / "labels.npy").exists():
        return same_or_given(given, main)
    if main is None:
        raise DataError(f"data={str(folder)!r}: it takes clean images too, to fit the probe on")
    files = CorruptedFiles(folder, len(main.train.classes))
    return WithFiles(main.name, main.train, main.test, main.skipped, files)


def run(subject: TaskContext) -> dict[str, float]:
    """Mean accuracy, whole, by family and by corruption."""
    backbone, splits = subject.backbone, subject.splits
    probe = probe_of(backbone, splits.train)

    def accuracy(images: Tensor, labels: Tensor) -> float:
        found = torch.from_numpy(probe.predict(backbone.encode(images).numpy()))
        return float((found == labels).double().mean())

    clean = splits.test
    few = subsample(len(clean), _PICTURES)
    shown, labels = backbone.images(clean)[few], clean.labels[few]
    figures = {
        "robustness_clean": accuracy(shown, labels),
        "robustness_chance": float(labels.bincount().max() / len(labels)),
    }
    made, truth = _from(splits, shown, labels, backbone.side)
    for name in NAMES:
        reached = [accuracy(made(name, severity), truth) for severity in SEVERITIES]
        figures[f"robustness_{name}"] = sum(reached) / len(reached)
    for family, names in FAMILIES.items():
        mean = sum(figures[f"robustness_{name}"] for name in names) / len(names)
        figures[f"robustness_{family}"] = mean
    figures["robustness"] = sum(figures[f"robustness_{name}"] for name in NAMES) / len(NAMES)
    figures["robustness_relative"] = figures["robustness"] / max(
        figures["robustness_clean"], 1 / len(labels)
    )
    return figures


def _from(splits: Splits, shown: Tensor, labels: Tensor, side: int) -> tuple[Corrupted, Tensor]:
    """Where corrupted images come from, and their labels."""
    files = splits.files if isinstance(splits, WithFiles) else None
    if files is None:
        return lambda name, severity: corrupt(shown, name, severity, EVALUATION_SEED), labels
    few = subsample(len(files.labels), _PICTURES)

    def read(name: str, severity: int) -> Tensor:
        images = files.images(name, severity, few)
        resized = image_ops.resize(images, [side], antialias=True)
        return image_ops.center_crop(resized, [side])

    return read, files.labels[few]


TASK = Task("robustness", _figures(), run, load)
