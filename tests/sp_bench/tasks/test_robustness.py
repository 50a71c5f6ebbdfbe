"""Robustness: the means by hand, and images from files in the layout of CIFAR-10-C."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sp_bench.corruptions import FAMILIES, NAMES, corrupt
from sp_bench.data import DataError, Splits
from sp_bench.tasks import EVALUATION_SEED, linear, robustness, run_task
from sp_bench.tasks.robustness import TASK


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.setattr(robustness, "_MAX_IMAGES", 24)


def test_score_is_mean_over_corruptions(net, tints, make_context, few_images):
    context = make_context(net, tints, side=32)
    found = run_task(TASK, context)
    probe = linear.fit_probe(context.backbone.features(tints.train).numpy(), tints.train.labels)
    chosen = robustness.subsample(40, 24)
    images, labels = context.backbone.images(tints.test)[chosen], tints.test.labels[chosen]
    reached = {
        name: [
            (probe.predict(context.backbone.extract(corrupt(images, name, s, EVALUATION_SEED)))
             == labels.numpy()).mean()
            for s in (1, 2, 3, 4, 5)
        ]
        for name in NAMES
    }  # fmt: skip
    mean = np.mean([share for shares in reached.values() for share in shares])
    assert found["robustness_v2"] == pytest.approx(mean)
    for family, names in FAMILIES.items():
        shares = [share for name in names for share in reached[name]]
        assert found[f"robustness_{family}_v2"] == pytest.approx(np.mean(shares))
    clean = (probe.predict(context.backbone.extract(images)) == labels.numpy()).mean()
    assert found["robustness_clean_v2"] == pytest.approx(clean)
    assert found["robustness_relative_v2"] == pytest.approx(mean / clean)
    assert found["robustness_chance_v2"] == pytest.approx(labels.bincount().max() / 24)
    assert mean < clean
    shown = images[robustness.subsample(24, 1)]
    assert context.examples.keys() == {"clean", *NAMES}
    assert torch.equal(context.examples["clean"], shown)
    fog = corrupt(images, "fog", robustness.SHOWN_SEVERITY, EVALUATION_SEED)
    assert torch.equal(context.examples["fog"], fog[robustness.subsample(24, 1)])


def test_earlier_version_has_keys_of_its_own():
    now, before = ({metric.key for metric in specs} for specs in (TASK.metrics, TASK.retired))
    assert now == {f"{key}_v2" for key in before} and "robustness" in before


@pytest.fixture
def folder(tmp_path, tints):
    """Black images in every corruption but one, which holds the clean ones."""
    clean = tints.test.pixels
    for name in NAMES:
        pixels = np.tile(clean if name == "fog" else np.zeros_like(clean), (5, 1, 1, 1))
        np.save(tmp_path / f"{name}.npy", pixels)
    np.save(tmp_path / "labels.npy", np.tile(tints.test.labels.numpy(), 5).astype(np.uint8))
    return tmp_path


def test_files_are_read_with_their_labels(folder, net, tints, make_context):
    splits = TASK.load(str(folder), tints)
    context = make_context(net, splits)
    found = run_task(TASK, context)
    assert context.examples.keys() == set(NAMES)  # a clean image might be another one
    assert found["robustness_fog_v2"] == found["robustness_clean_v2"]
    assert found["robustness_contrast_v2"] == pytest.approx(0.25)  # one class for all, of four
    assert found["robustness_v2"] == pytest.approx((found["robustness_clean_v2"] + 14 * 0.25) / 15)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("snow", None, "snow.npy is missing; it takes labels.npy and a file for each"),
        ("snow", np.zeros((3, 3)), r"snow.npy has \(3, 3\), it takes \(200, H, W, 3\)"),
        ("labels", np.zeros(7), r"labels.npy has \(7,\), it takes \(5 N,\), five severities"),
        ("labels", np.full(200, 9), "labels.npy has label 9, it takes 4 classes"),
        ("snow", np.array([{}], dtype=object), "snow.npy is no array"),
    ],
)
def test_bad_files_are_refused_by_name(folder, tints, name, array, says):
    (folder / f"{name}.npy").unlink()
    if array is not None:
        np.save(folder / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=says) as error:
        TASK.load(str(folder), tints)
    assert "\n" not in str(error.value)


def test_files_need_clean_images(folder):
    with pytest.raises(DataError, match="takes clean images too"):
        TASK.load(str(folder), None)


def test_default_corrupts_the_shared_images(tints):
    assert TASK.load(None, tints) is tints
    assert isinstance(TASK.load(None, tints), Splits)
