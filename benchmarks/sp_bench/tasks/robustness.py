"""Robustness: accuracy of the linear probe on corrupted images, which it was not fitted on.

Accuracy is the mean over 15 corruptions at 5 severities (Hendrycks and Dietterich, ICLR 2019).
Their mCE is relative to a reference network and is not reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sp_bench.corruptions import FAMILIES, NAMES, corrupt
from sp_bench.corruptions.cifar_c import CorruptedFiles
from sp_bench.corruptions.severities import SEVERITIES
from sp_bench.data.dataset import RGB, DataError, Splits
from sp_bench.data.image_files import resize_and_center_crop
from sp_bench.data.load import load_labelled
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks.linear import cached_probe
from sp_bench.tasks.task import (
    EVALUATION_SEED,
    SEMANTIC,
    Task,
    TaskContext,
    percent_control,
    subsample,
)

# 75 times as many are encoded; 1,000 images resolve an accuracy to 1.5 points, and a difference
# of two backbones on the same images more finely.
_MAX_IMAGES = 1000

CorruptedImages = Callable[[str, int], Tensor]  # of a corruption at a severity


def _metrics() -> tuple[MetricSpec, ...]:
    families = [
        MetricSpec(f"robustness_{family}", f"robustness: {family} (top-1)", percent=True)
        for family in FAMILIES
    ]
    single = [
        percent_control(f"robustness_{name}", f"robustness: {name} (top-1)") for name in NAMES
    ]
    return (
        MetricSpec("robustness", "robustness: mean of 15 corruptions (top-1)", percent=True),
        MetricSpec("robustness_relative", "robustness: relative to clean", percent=True),
        *families,
        percent_control("robustness_clean", "robustness: clean (top-1)"),
        percent_control("robustness_chance", "robustness: most frequent class"),
        *single,
    )


@dataclass(frozen=True)
class SplitsWithCorruptions(Splits):
    """Clean images, and corrupted ones from files.

    Attributes:
        files: corrupted images.
    """

    files: CorruptedFiles | None = None


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


def run(context: TaskContext) -> dict[str, float]:
    """Mean accuracy over all corruptions, by family and by corruption."""
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
    metrics = {
        "robustness_clean": accuracy(clean, labels),
        "robustness_chance": float(labels.bincount().max() / len(labels)),
    }
    corrupted, corrupted_labels = _corrupted(splits, clean, labels, backbone.side)
    by_name = {
        name: _mean(
            accuracy(corrupted(name, severity), corrupted_labels) for severity in SEVERITIES
        )
        for name in NAMES
    }
    metrics |= {f"robustness_{name}": value for name, value in by_name.items()}
    for family, names in FAMILIES.items():
        metrics[f"robustness_{family}"] = _mean(by_name[name] for name in names)
    metrics["robustness"] = _mean(by_name.values())
    # At least one image counts as correct, so that the ratio is finite.
    clean_accuracy = max(metrics["robustness_clean"], 1 / len(labels))
    metrics["robustness_relative"] = metrics["robustness"] / clean_accuracy
    return metrics


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _corrupted(
    splits: Splits, clean: Tensor, labels: Tensor, side: int
) -> tuple[CorruptedImages, Tensor]:
    """Corrupted images, from files or made from the clean ones; and their labels."""
    files = splits.files if isinstance(splits, SplitsWithCorruptions) else None
    if files is None:
        return lambda name, severity: corrupt(clean, name, severity, EVALUATION_SEED), labels
    indices = subsample(len(files.labels), _MAX_IMAGES)

    def read(name: str, severity: int) -> Tensor:
        return resize_and_center_crop(files.images(name, severity, indices), side)

    return read, files.labels[indices]


TASK = Task("robustness", _metrics(), run, load, quality=SEMANTIC)
