"""Differences of the classes, in their definitions and in the masks."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from sp_bench.data.world import PART_NAMES, TOYS, Toy

SETS = [TOYS[0:3], TOYS[3:6], TOYS[6:9]]


def parts(toy: Toy) -> Counter[tuple[int, float, float]]:
    return Counter((piece.kind, piece.width, piece.height) for piece in toy.pieces)


def arrangement(pieces) -> np.ndarray:
    """Where each piece is from the middle of all, in the order of their kinds."""
    places = np.array([(p.x, p.y) for p in sorted(pieces, key=lambda p: (p.kind, p.x, p.y))])
    return places - places.mean(axis=0)


@pytest.mark.parametrize("toys", SETS, ids=lambda toys: toys[0].name)
def test_toys_of_a_set_share_their_parts(toys):
    assert parts(toys[0]) == parts(toys[1]) == parts(toys[2])


def test_the_sets_have_different_parts():
    kinds = [{piece.kind for piece in toys[0].pieces} for toys in SETS]
    assert all(one != other for one, other in combinations(kinds, 2))
    assert set.union(*kinds) == set(range(1, len(PART_NAMES) + 1))


@pytest.mark.parametrize("toys", SETS, ids=lambda toys: toys[0].name)
def test_toys_of_a_set_differ_in_layout(toys):
    """Whatever their finer kinds: some part is at least 0.4 m, a fifth of a toy, elsewhere."""
    for one, other in combinations(toys, 2):
        for mine in range(3):
            for theirs in range(3):
                gap = arrangement(one.build(mine)) - arrangement(other.build(theirs))
                assert np.hypot(*gap.T).max() > 0.4


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)
def test_fine_kinds_differ_in_one_part(toy):
    built = [toy.build(fine) for fine in range(3)]
    for one, other in combinations(built, 2):
        changed = [i for i, (p, q) in enumerate(zip(one, other, strict=True)) if p != q]
        assert changed == [toy.changing]
        p, q = one[toy.changing], other[toy.changing]
        moved = np.hypot(p.x - q.x, p.y - q.y)
        assert (moved > 0.2) != (max(p.width / q.width, q.width / p.width) > 1.3)


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)
def test_fine_kinds_stand_on_the_ground(toy):
    for fine in range(3):
        bottoms = []
        for piece in toy.build(fine):
            turn = np.radians(piece.turn)
            reach = abs(piece.width * np.sin(turn)) + abs(piece.height * np.cos(turn))
            bottoms.append(piece.y - reach / 2)
        assert -0.01 <= min(bottoms) <= 0.01


def test_most_toys_are_not_symmetric():
    def lopsided(toy: Toy) -> bool:
        across = Counter((p.kind, round(p.x, 1)) for p in toy.build(1))
        mirrored = Counter((p.kind, round(-p.x, 1)) for p in toy.build(1))
        return across != mirrored

    assert sum(lopsided(toy) for toy in TOYS) >= 4


def test_masks_show_only_parts_of_the_class(demo):
    for index, label in enumerate(demo.labels.tolist()):
        seen = set(np.unique(demo.part_mask(index)).tolist()) - {0}
        assert seen <= {piece.kind for piece in TOYS[label].pieces}
    shown = {label: Counter() for label in range(9)}
    for index, label in enumerate(demo.labels.tolist()):
        shown[label].update(np.unique(demo.part_mask(index)).tolist())
    for label, toy in enumerate(TOYS):
        assert all(shown[label][piece.kind] >= 5 for piece in toy.pieces)
