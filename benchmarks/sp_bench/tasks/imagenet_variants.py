"""Variants of ImageNet: recognition of its classes in other images than it was fitted on.

The linear probe and kNN of the training images choose among the classes that the variant has, as
its authors let a classifier choose: 200 of ImageNet's 1,000 in ImageNet-R and ImageNet-A.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sp_bench.data.class_folders import list_class_folders
from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.image_folder import FolderDataset
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks.knn import predict_knn
from sp_bench.tasks.probe_decisions import probe_decisions
from sp_bench.tasks.task import SEMANTIC, Task, TaskContext, most_frequent, percent_control


@dataclass(frozen=True)
class SplitsWithVariant(Splits):
    """Training images, those of a variant as ``test``, and the test images of the training's kind.

    Attributes:
        clean: ordinary test images.
    """

    clean: ImageDataset | None = None


def make_task(name: str, title: str) -> Task:
    """The task of one variant.

    Args:
        name: name of the task, and start of its keys.
        title: name in tables.
    """

    def run(context: TaskContext) -> dict[str, float]:
        """Accuracy on the variant, by probe and kNN, and its controls."""
        splits, train = context.splits, context.splits.train
        if not isinstance(splits, SplitsWithVariant) or splits.clean is None:
            raise UnmeasurableError(f"data: {name} takes a folder of its own")
        allowed = np.unique(splits.test.labels.numpy())

        def probe(backbone: FrozenBackbone, images: ImageDataset) -> float:
            labels = images.labels.numpy()
            correct = probe_decisions(backbone, train, images, allowed) == labels
            return float(correct[np.isin(labels, allowed)].mean())

        labels = splits.test.labels
        return {
            name: probe(context.backbone, splits.test),
            f"{name}_knn": _knn(context.backbone, splits, allowed),
            f"{name}_clean": probe(context.backbone, splits.clean),
            f"{name}_random": probe(context.untrained, splits.test),
            f"{name}_chance": most_frequent(labels),
        }

    metrics = (
        MetricSpec(name, f"{title}: linear probe (top-1)", percent=True),
        MetricSpec(f"{name}_knn", f"{title}: kNN (top-1)", percent=True),
        percent_control(f"{name}_clean", f"{title}: ordinary images of its classes"),
        percent_control(f"{name}_random", f"{title}: random backbone"),
        percent_control(f"{name}_chance", f"{title}: most frequent class"),
    )
    return Task(name, metrics, run, load, quality=SEMANTIC, needs_own_data=True)


def load(source: str | None, shared: Splits | None) -> Splits:
    """The shared images, with a folder of other images of their classes as ``test``.

    Args:
        source: folder of classes, as for `list_class_folders`.
        shared: images of all tasks, which the probe is fitted on.

    Raises:
        DataError: one of both is missing, or they have fewer than two classes in common, with
            test images of both kinds.
    """
    folder, shared = check_sources(source, shared)
    paths, labels = list_class_folders(folder, shared.train.classes)
    if not torch.isin(shared.test.labels, torch.tensor(labels)).any():
        raise DataError.of(folder, "its classes have no test images among those of all tasks")
    variant = FolderDataset(paths, labels, shared.train.classes)
    return SplitsWithVariant(shared.name, shared.train, variant, shared.skipped, shared.test)


def check_sources(source: str | None, shared: Splits | None) -> tuple[Path, Splits]:
    """Folder of the variant, and the images of all tasks.

    Raises:
        DataError: one of both is missing.
    """
    if source is None:
        raise DataError("it takes a folder of its own, TASK=FOLDER")
    if shared is None:
        raise DataError.of(source, "it takes images of its classes too, to fit the probe on")
    return Path(source).expanduser(), shared


def _knn(backbone: FrozenBackbone, splits: Splits, allowed: np.ndarray) -> float:
    train, test, device = splits.train, splits.test, backbone.device
    is_allowed = torch.isin(train.labels, torch.from_numpy(allowed))
    predictions = predict_knn(
        backbone.features(train)[is_allowed].to(device),
        train.labels[is_allowed].to(device),
        backbone.features(test).to(device),
        len(train.classes),
    )
    return float((predictions.cpu() == test.labels).double().mean())
