"""Robustness: accuracy of the linear probe on corrupted images, which it was not fitted on.

Accuracy is the mean over 15 corruptions at 5 severities (Hendrycks and Dietterich, ICLR 2019). The
images are corrupted here, or come from files in the layout of CIFAR-10-C. mCE, which is relative to
AlexNet on ImageNet-C, is a metric of the task ``imagenet_c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sp_bench.corruptions import FAMILIES, NAMES, corrupt
from sp_bench.corruptions.cifar_c import CorruptedFiles
from sp_bench.corruptions.imagenet_c import CorruptedFolders
from sp_bench.corruptions.severities import SEVERITIES
from sp_bench.data.dataset import RGB, DataError, Splits
from sp_bench.data.load import load_labelled
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks.examples import displayable
from sp_bench.tasks.linear import cached_probe
from sp_bench.tasks.task import (
    EVALUATION_SEED,
    SEMANTIC,
    Task,
    TaskContext,
    most_frequent,
    subsample,
)

# 75 times as many are encoded; 1,000 images resolve an accuracy to 1.5 points, and a difference
# of two backbones on the same images more finely.
_MAX_IMAGES = 1000

# The keys of version 1 have no suffix: its blurs and its weather were weaker or stronger.
VERSION = "_v2"
SHOWN_SEVERITY = 3  # of the images that the report shows


def _metrics(version: str) -> tuple[MetricSpec, ...]:
    def spec(name: str, label: str, headline: bool = True) -> MetricSpec:
        title = f"{'robustness' if version else 'robustness, earlier corruptions'}: {label}"
        key = "_".join(part for part in ("robustness", name) if part) + version
        return MetricSpec(key, title, percent=True, headline=headline)

    return (
        spec("", "mean of 15 corruptions (top-1)"),
        spec("relative", "relative to clean"),
        *(spec(family, f"{family} (top-1)") for family in FAMILIES),
        spec("clean", "clean (top-1)", headline=False),
        spec("chance", "most frequent class", headline=False),
        *(spec(name, f"{name} (top-1)", headline=False) for name in NAMES),
    )


@dataclass(frozen=True)
class SplitsWithCorruptions(Splits):
    """Clean images, and corrupted ones from files.

    Attributes:
        files: corrupted images.
    """

    files: CorruptedFiles | CorruptedFolders | None = None


@dataclass(frozen=True)
class Accuracies:
    """Top-1 accuracy of the linear probe.

    Attributes:
        clean: of the clean test images.
        chance: of the most frequent class.
        by_name: of each corruption, mean over severities.
    """

    clean: float
    chance: float
    by_name: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over all corruptions."""
        return _mean(self.by_name.values())


def load(source: str | None, shared: Splits | None) -> Splits:
    """Images to corrupt, or a folder of corrupted ones together with the shared clean ones.

    Args:
        source: the task's own source, as for `load_data`, or a folder in the layout of CIFAR-10-C.
        shared: images of all tasks.

    Raises:
        DataError: there is no source, or it cannot be used.
    """
    folder = Path(source).expanduser() if source else None
    if folder is None or not (folder / "labels.npy").exists():
        return load_labelled(source, shared)
    if shared is None:
        raise DataError.of(folder, "it takes clean images too, to fit the probe on")
    files = CorruptedFiles(folder, len(shared.train.classes))
    return SplitsWithCorruptions(shared.name, shared.train, shared.test, shared.skipped, files)


def measure(context: TaskContext) -> Accuracies:
    """Accuracy on clean and on corrupted images.

    The examples are one image in each corruption, and clean if the corrupted ones are made of it.

    Raises:
        UnmeasurableError: the images are no RGB images of 8 bits.
    """
    backbone, splits = context.backbone, context.splits
    if not splits.test.kind.is_convertible or backbone.stats.channels != RGB.channels:
        raise UnmeasurableError(
            f"data: got images of {splits.test.kind}; the corruptions are defined on RGB of 8 bits "
            "(grey images: --channels 3)"
        )
    probe = cached_probe(backbone, splits.train)

    def accuracy(images: Tensor, labels: Tensor) -> float:
        prediction = torch.from_numpy(probe.predict(backbone.extract(images).numpy()))
        return float((prediction == labels).double().mean())

    indices = subsample(len(splits.test), _MAX_IMAGES)
    clean, labels = backbone.images(splits.test)[indices], splits.test.labels[indices]
    corrupted, corrupted_labels = _corrupted(splits, clean, labels, backbone.side)
    shown = subsample(len(corrupted_labels), 1)

    def mean_accuracy(name: str) -> float:
        shares = []
        for severity in SEVERITIES:
            images = corrupted(name, severity)
            if severity == SHOWN_SEVERITY:
                context.examples[name] = displayable(images[shown])
            shares.append(accuracy(images, corrupted_labels))
        return _mean(shares)

    if corrupted_labels is labels:
        context.examples["clean"] = displayable(clean[shown])
    return Accuracies(
        accuracy(clean, labels),
        most_frequent(labels),
        {name: mean_accuracy(name) for name in NAMES},
    )


def run(context: TaskContext) -> dict[str, float]:
    """Mean accuracy over all corruptions, by family and by corruption."""
    found = measure(context)
    # At least one image counts as correct, so that the ratio is finite.
    clean = max(found.clean, 1 / min(len(context.splits.test), _MAX_IMAGES))
    metrics = {
        "robustness": found.mean,
        "robustness_relative": found.mean / clean,
        "robustness_clean": found.clean,
        "robustness_chance": found.chance,
    }
    for family, names in FAMILIES.items():
        metrics[f"robustness_{family}"] = _mean(found.by_name[name] for name in names)
    metrics |= {f"robustness_{name}": value for name, value in found.by_name.items()}
    return {key + VERSION: value for key, value in metrics.items()}


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _corrupted(
    splits: Splits, clean: Tensor, labels: Tensor, side: int
) -> tuple[Callable[[str, int], Tensor], Tensor]:
    """Images of a corruption at a severity, from files or made of the clean ones; their labels."""
    files = splits.files if isinstance(splits, SplitsWithCorruptions) else None
    if files is None:
        return lambda name, severity: corrupt(clean, name, severity, EVALUATION_SEED), labels
    indices = subsample(len(files.labels), _MAX_IMAGES)
    return lambda name, severity: files.images(name, severity, indices, side), files.labels[indices]


TASK = Task("robustness", _metrics(VERSION), run, load, quality=SEMANTIC, retired=_metrics(""))
