from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from sp_bench.data import DataError, DemoDataset
from torch.utils.data import DataLoader


def pixels(images: DemoDataset) -> np.ndarray:
    return np.stack([np.asarray(images[index][0]) for index in range(len(images))])


def test_same_seed_gives_same_samples(demo):
    again = DemoDataset(20)
    np.testing.assert_array_equal(pixels(again), pixels(demo)[:20])
    for index in (0, 7, 19):
        np.testing.assert_array_equal(again.part_mask(index), demo.part_mask(index))
        np.testing.assert_array_equal(again.depth(index), demo.depth(index))


def test_demo_pixels_match_reference(demo):
    """To a rounding: sines and exponentials may differ in their last bit between machines.

    A failure means that metrics on the demo can no longer be compared with older ones.
    """
    means = pixels(demo)[:5].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, [140.93, 122.09, 153.58, 134.28, 137.86], atol=0.2)


def test_seed_and_split_change_images(demo):
    mine = pixels(demo)[:12].astype(int)
    for others in (DemoDataset(12, seed=1), DemoDataset(12, split="test")):
        difference = np.abs(pixels(others).astype(int) - mine).mean(axis=(1, 2, 3))
        assert (difference > 10).all()


def test_train_and_test_are_disjoint(demo):
    seen = {image.tobytes() for image in pixels(demo)}
    held_out = {image.tobytes() for image in pixels(DemoDataset(54, split="test"))}
    assert len(seen) == len(held_out) == 54
    assert not seen & held_out


@pytest.mark.parametrize("count", [9, 27, 40])
def test_classes_are_balanced_for_any_size(demo, count):
    coarse = torch.bincount(demo.labels[:count], minlength=9)
    fine = torch.bincount(demo.fine_grained().labels[:count], minlength=27)
    assert coarse.max() - coarse.min() <= 1
    assert fine.max() - fine.min() <= 1


def test_fine_class_has_one_parent_class(demo):
    fine = demo.fine_grained()
    assert len(set(fine.classes)) == 27
    for label, own in zip(demo.labels.tolist(), fine.labels.tolist(), strict=True):
        assert fine.classes[own].split(", ")[0] == demo.classes[label]


def test_item_is_image_and_label(demo):
    image, label = demo[-1]
    assert (image.mode, image.size) == ("RGB", (64, 64))
    assert label == demo.labels[53] == 8
    with pytest.raises(IndexError):
        demo[54]
    with pytest.raises(IndexError):
        demo.part_mask(54)


def test_workers_get_the_same_images(demo):
    copy = pickle.loads(pickle.dumps(demo))
    np.testing.assert_array_equal(pixels(copy), pixels(demo))
    loader = DataLoader(demo, batch_size=27, num_workers=1, collate_fn=list)
    read = np.stack([np.asarray(image) for batch in loader for image, _ in batch])
    np.testing.assert_array_equal(read, pixels(demo))


def test_demo_ignores_global_rng():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    first = pixels(DemoDataset(3, seed=4))
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(pixels(DemoDataset(3, seed=4)), first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3, "split": "val"}, "split='val': it takes 'train' or 'test'"),
        ({"count": 3, "seed": -1}, "seed=-1: it takes a whole number, at least 0"),
        ({"count": -3}, "count=-3: it takes a number of images, at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(DataError) as error:
        DemoDataset(**arguments)
    assert str(error.value) == message
