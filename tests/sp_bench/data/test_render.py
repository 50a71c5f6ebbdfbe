"""Agreement of image, mask and depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sp_bench.data.render import render_scene
from sp_bench.data.scene import SIDE, Scene, Thing
from sp_bench.data.staging import stage
from sp_bench.data.world import BLOCK, DISC, TOYS


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(3)
    return [stage(TOYS[i % 9].build(i % 3), rng) for i in range(45)]


def toy_of(scene: Scene) -> Thing:
    (toy,) = (thing for thing in scene.things if any(shape.part for shape in thing.shapes))
    return toy


def clean(scene: Scene, *things: Thing) -> Scene:
    return replace(scene, things=things, blur=0.0, noise=0.0)


def test_toy_lies_inside_the_image(scenes):
    for scene in scenes:
        for shape in toy_of(scene).shapes:
            across, down = shape.reach
            assert across <= shape.x <= SIDE - across
            assert down <= shape.y <= SIDE - down


def test_part_mask_matches_its_shape(scenes):
    for scene in scenes[:18]:
        toy = toy_of(scene)
        shape = next(shape for shape in toy.shapes if shape.kind in (DISC, BLOCK))
        mask = render_scene(clean(scene, replace(toy, shapes=(shape,)))).part_mask
        assert set(np.unique(mask)) == {0, shape.kind}
        rows, columns = np.nonzero(mask)
        assert rows.mean() + 0.5 == pytest.approx(shape.y, abs=0.3)
        assert columns.mean() + 0.5 == pytest.approx(shape.x, abs=0.3)
        # A disc fills pi / 4 of the box round it; a block all of it but the rounded corners.
        filled = {DISC: np.pi, BLOCK: 4 * 0.97}[shape.kind] * shape.a * shape.b
        assert len(rows) == pytest.approx(filled, rel=0.12)


def test_most_of_the_toy_is_visible(scenes):
    shares = []
    for scene in scenes:
        alone = render_scene(clean(scene, toy_of(scene))).part_mask > 0
        shares.append((render_scene(scene).part_mask > 0).sum() / alone.sum())
    assert np.mean(np.array(shares) > 0.7) > 0.9
    assert np.mean(np.array(shares) < 0.97) > 0.03  # and some of it is hidden now and then


def test_only_foreground_occludes_the_toy(scenes):
    for scene in scenes:
        others = [thing for thing in scene.things if thing.foot < SIDE]
        whole, alone = (
            render_scene(clean(scene, *others)),
            render_scene(clean(scene, toy_of(scene))),
        )
        assert (whole.part_mask > 0).sum() > 0.95 * (alone.part_mask > 0).sum()


def test_toy_is_nearer_than_covered_clutter(scenes):
    covers_anything = 0
    for scene in scenes:
        others = [thing for thing in scene.things if thing is not toy_of(scene)]
        whole, without, empty = (
            render_scene(scene),
            render_scene(clean(scene, *others)),
            render_scene(clean(scene)),
        )
        seen = whole.part_mask > 0
        assert (whole.depth[seen] < without.depth[seen]).all()
        covers_anything += (without.depth[seen] < empty.depth[seen]).sum()
    assert covers_anything > 100


def test_mask_excludes_occluded_pixels(scenes):
    hidden_anywhere = 0
    for scene in scenes:
        alone, whole = render_scene(clean(scene, toy_of(scene))), render_scene(scene)
        seen = whole.part_mask > 0
        np.testing.assert_array_equal(whole.part_mask[seen], alone.part_mask[seen])
        hidden = (alone.part_mask > 0) & ~seen
        assert (whole.depth[hidden] < alone.depth[hidden]).all()
        np.testing.assert_array_equal(whole.depth[seen], alone.depth[seen])
        hidden_anywhere += hidden.sum()
    assert hidden_anywhere > 100


def test_things_are_nearer_than_background(scenes):
    for scene in scenes:
        empty, whole = render_scene(clean(scene)), render_scene(scene)
        assert (whole.depth <= empty.depth).all()
        assert (whole.depth[whole.part_mask > 0] < empty.depth[whole.part_mask > 0]).all()


def test_ground_depth_falls_row_by_row(scenes):
    for scene in scenes:
        depth = render_scene(clean(scene)).depth
        assert depth.dtype == np.float32
        assert depth.min() > 0
        assert depth.max() <= 60
        below = depth[int(np.ceil(scene.ground_end)) :, 0]
        assert (np.diff(below) < 0).all()


def test_toy_depth_equals_its_ground_depth(scenes):
    for scene in scenes:
        toy = toy_of(scene)
        ground = render_scene(clean(scene)).depth[int(toy.foot), 0]
        # Half a row either way, and by how far its parts stand out.
        drawing = render_scene(clean(scene, toy))
        distance = np.median(drawing.depth[drawing.part_mask > 0])
        assert distance == pytest.approx(ground, rel=0.12)


def test_toy_changes_only_mask_and_shadow(scenes):
    for scene in scenes[:15]:
        empty, toy = render_scene(clean(scene)), render_scene(clean(scene, toy_of(scene)))
        change = np.abs(toy.image.astype(int) - empty.image).max(axis=2)
        in_mask = toy.part_mask > 0
        assert (change[in_mask] > 8).mean() > 0.9
        outside = np.ones_like(in_mask)
        rows, columns = np.nonzero(in_mask)
        outside[max(rows.min() - 6, 0) : rows.max() + 6, :] = False
        outside[:, max(columns.min() - 6, 0) : columns.max() + 6] = False
        above = outside & (np.arange(SIDE)[:, None] < scene.ground_end - 1)
        assert (change[above] == 0).all()


def test_shadow_falls_away_from_light(scenes):
    sides = []
    for scene in scenes:
        toy = toy_of(scene)
        empty, lit = render_scene(clean(scene)), render_scene(clean(scene, toy))
        darker = empty.image.astype(int).sum(2) - lit.image.astype(int).sum(2)
        columns = np.nonzero(lit.part_mask)[1]
        ground = np.arange(SIDE)[:, None] > scene.ground_end
        left = (darker * ground)[:, : max(columns.min() - 6, 0)].clip(0).sum()
        right = (darker * ground)[:, columns.max() + 6 :].clip(0).sum()
        if left + right > 500:
            sides.append((right > left) == (scene.light[0] < 0))
    assert len(sides) > 10
    assert np.mean(sides) > 0.95


def test_parts_are_brighter_toward_light(scenes):
    brighter = []
    for scene in scenes:
        toy = toy_of(scene)
        plain = [replace(s, material=replace(s.material, contrast=0.0)) for s in toy.shapes]
        disc = max(plain, key=lambda shape: shape.a)
        drawing = render_scene(clean(scene, replace(toy, shapes=(disc,))))
        grey = drawing.image.astype(float).sum(2)
        rows, columns = np.nonzero(drawing.part_mask)
        middle = columns.mean()
        right = grey[rows[columns > middle], columns[columns > middle]].mean()
        left = grey[rows[columns < middle], columns[columns < middle]].mean()
        brighter.append((right > left) == (scene.light[0] > 0))
    assert np.mean(brighter) > 0.95


def test_hue_is_independent_of_part_kind():
    """The hues of each kind of part spread over the whole circle."""
    rng = np.random.default_rng(0)
    hues: dict[int, list[float]] = {}
    for index in range(180):
        for shape in toy_of(stage(TOYS[index % 9].build(0), rng)).shapes:
            red, green, blue = shape.material.colour
            hue = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
            hues.setdefault(shape.kind, []).append(float(hue))
    assert set(hues) == {1, 2, 3, 4, 5, 6}
    for angles in hues.values():
        assert np.histogram(angles, bins=6, range=(-np.pi, np.pi))[0].min() > len(angles) / 24
