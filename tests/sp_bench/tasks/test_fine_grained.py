from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sp_bench.data import DataError, load_data
from sp_bench.tasks import linear, run_task
from sp_bench.tasks.fine_grained import TASK, class_mean


def test_class_mean_matches_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 5], 200, p=[0.7, 0.1, 0.1, 0.1])
    found = np.where(rng.random(200) < 0.5, truth, rng.integers(0, 6, 200))
    expected = balanced_accuracy_score(truth, found)
    assert class_mean(torch.from_numpy(found), torch.from_numpy(truth)) == pytest.approx(expected)
    assert abs(expected - (truth == found).mean()) > 0.01


def test_metrics_are_class_means_of_probes(net, tints, make_context):
    context = make_context(net, tints)
    found = run_task(TASK, context)
    probe = linear.cached_probe(context.backbone, tints.train)
    prediction = probe.predict(context.backbone.features(tints.test).numpy())
    expected = balanced_accuracy_score(tints.test.labels, prediction)
    assert found["fine_grained_linear"] == pytest.approx(expected)
    assert found["fine_grained_chance"] == 0.25
    assert found["fine_grained_knn"] > 0.3


def test_demo_uses_fine_classes():
    demo = load_data("demo", size=54)
    splits = TASK.load(None, demo)
    assert torch.equal(splits.train.labels, demo.train.fine_grained().labels)
    assert len(splits.train.classes) == 27


def test_images_without_fine_classes_refused(tints):
    with pytest.raises(DataError, match="takes images in fine classes"):
        TASK.load(None, tints)
