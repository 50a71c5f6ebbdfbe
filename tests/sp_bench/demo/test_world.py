"""Things and scenes of the demo: parts in their order, their masks and their depth."""

from __future__ import annotations

import numpy as np
import pytest
from sp_bench.demo.cues import draw_cue
from sp_bench.demo.world import PART_NAMES, SIZES, SKY, THINGS, draw_scene


@pytest.mark.parametrize("label", range(len(THINGS)), ids=list(THINGS))
def test_mask_shows_each_part_of_the_thing(label):
    parts = {PART_NAMES.index(part.name) + 1 for part in list(THINGS.values())[label]}
    for seed in range(3):
        mask = draw_scene(label, 1, 64, np.random.default_rng(seed)).part_mask
        assert set(np.unique(mask)) == {0, *parts}


def test_depth_is_nearest_at_the_thing():
    """The sky is far, the ground nears downwards, and the thing is in front of what it covers."""
    scene = draw_scene(0, 1, 64, np.random.default_rng(0))
    assert (scene.depth[0][scene.part_mask[0] == 0] == SKY).all()
    empty = scene.depth[:, scene.part_mask.max(axis=0) == 0]
    assert (np.diff(empty, axis=0) <= 0).all() and empty.min() > 1
    rows, columns = np.nonzero(scene.part_mask)
    own = scene.depth[rows, columns]
    assert np.ptp(own) < 0.1 * own.max()
    # At the foot the ground is as far as the thing.
    assert (own <= empty[rows, 0] + 0.1 * own.max()).all()


def test_later_part_is_in_front():
    """A door covers the wall, and is nearer."""
    scene = draw_scene(0, 1, 64, np.random.default_rng(0))
    wall, door = (PART_NAMES.index(name) + 1 for name in ("wall", "leg"))
    depths = [scene.depth[scene.part_mask == part] for part in (wall, door)]
    assert depths[1].max() < depths[0].min()


def test_last_part_grows_with_its_size():
    areas = []
    for size in range(len(SIZES)):
        mask = draw_scene(0, size, 64, np.random.default_rng(0)).part_mask
        areas.append((mask == PART_NAMES.index("leg") + 1).sum())
    assert areas[0] * 1.5 < areas[1] < areas[2] / 1.5


def test_side_changes_resolution_only():
    small, large = (draw_scene(2, 1, side, np.random.default_rng(3)) for side in (48, 96))
    same = large.part_mask[::2, ::2] == small.part_mask
    assert same.mean() > 0.95
    assert abs(large.image.mean() - small.image.mean()) < 2


def test_patterns_share_an_outline():
    """Pixels that differ between two patterns lie within the same outline."""
    images = [draw_cue(1, k, 64, np.random.default_rng(0)).astype(int) for k in range(3)]
    inside = [np.abs(image - images[0]).sum(axis=2) > 30 for image in images[1:]]
    corner = np.concatenate([each[:8, :8].ravel() for each in inside])
    assert not corner.any() and all(each.mean() > 0.1 for each in inside)
