"""The classes of the demo: toys that differ in their parts and in the arrangement of the parts.

There are three sets of parts and three toys of each set. The toys of a set have the same parts in
the same sizes, so they differ only in the arrangement. Each toy has three fine kinds, which differ
only in the position or the size of one part. Colours and materials are random for every part and
independent of the class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

PART_NAMES = ("block", "disc", "cone", "post", "ring", "dome")
BLOCK, DISC, CONE, POST, RING, DOME = range(1, 7)  # as in the part masks, where 0 is no part


@dataclass(frozen=True)
class Piece:
    """A part at its position in a toy.

    Attributes:
        kind: kind of the part, from 1; ``PART_NAMES[kind - 1]`` is its name.
        x: centre, to the right of the middle of the toy, in metres.
        y: centre, above the ground, in metres.
        width: width in metres before the rotation.
        height: height in metres before the rotation.
        turn: rotation in degrees, anticlockwise.
    """

    kind: int
    x: float
    y: float
    width: float
    height: float
    turn: float = 0.0


@dataclass(frozen=True)
class Change:
    """Definition of a fine kind of a toy: the shift or the size of one part.

    Attributes:
        name: name of the fine kind.
        right: shift of the part to the right in metres.
        up: shift of the part upwards in metres.
        grow: factor of its width and height.
    """

    name: str
    right: float = 0.0
    up: float = 0.0
    grow: float = 1.0


@dataclass(frozen=True)
class Toy:
    """A class of the demo.

    Attributes:
        name: name of the class.
        pieces: parts from back to front.
        changing: index of the piece that the fine kinds change.
        changes: definitions of the fine kinds.
    """

    name: str
    pieces: tuple[Piece, ...]
    changing: int
    changes: tuple[Change, ...]

    def build(self, fine: int) -> tuple[Piece, ...]:
        """Pieces of one fine kind, from back to front.

        Args:
            fine: index of the fine kind.

        >>> [round(TOYS[0].build(fine)[1].x, 2) for fine in range(3)]
        [-0.32, 0.0, 0.32]
        """
        change, pieces = self.changes[fine], list(self.pieces)
        old = pieces[self.changing]
        pieces[self.changing] = replace(
            old,
            x=old.x + change.right,
            y=old.y + change.up,
            width=old.width * change.grow,
            height=old.height * change.grow,
        )
        return tuple(pieces)


def _sideways(part: str, step: float) -> tuple[Change, ...]:
    return (
        Change(f"{part} left", right=-step),
        Change(f"{part} middle"),
        Change(f"{part} right", right=step),
    )


def _upwards(part: str, step: float) -> tuple[Change, ...]:
    return (
        Change(f"{part} low", up=-step),
        Change(f"{part} middle"),
        Change(f"{part} high", up=step),
    )


def _sizes(part: str, factor: float) -> tuple[Change, ...]:
    return (
        Change(f"{part} small", grow=1 / factor),
        Change(f"{part} medium"),
        Change(f"{part} large", grow=factor),
    )


_block = partial(Piece, BLOCK, width=1.05, height=0.6)
_disc = partial(Piece, DISC, width=0.52, height=0.52)
_cone = partial(Piece, CONE, width=0.66, height=0.62)
_post = partial(Piece, POST, width=0.2, height=0.95)
_ring = partial(Piece, RING, width=0.8, height=0.8)
_dome = partial(Piece, DOME, width=0.84, height=0.46)

TOYS: tuple[Toy, ...] = (
    # A block, a cone and two discs.
    Toy(
        "wagon",
        (_block(0, 0.72), _cone(0, 1.3), _disc(-0.36, 0.26), _disc(0.36, 0.26)),
        1,
        _sideways("cone", 0.32),
    ),
    Toy(
        "clown",
        (_cone(0, 1.36), _block(0, 0.3), _disc(-0.27, 0.84), _disc(0.27, 0.84)),
        0,
        _sizes("cone", 1.4),
    ),
    Toy(
        "lamp",
        (_cone(-0.1, 0.31), _block(-0.1, 0.9), _disc(-0.36, 1.44), _disc(0.66, 0.9)),
        3,
        _upwards("disc", 0.32),
    ),
    # A block, a dome and two posts.
    Toy(
        "table",
        (_post(-0.38, 0.47), _post(0.38, 0.47), _block(0, 1.1), _dome(0, 1.6)),
        3,
        _sideways("dome", 0.32),
    ),
    Toy(
        "snail",
        (_post(-0.2, 1.3, turn=22), _post(0.42, 1.25, turn=-22), _dome(0.1, 0.78), _block(0, 0.3)),
        2,
        _sizes("dome", 1.35),
    ),
    Toy(
        "crane",
        (_post(-0.5, 0.95), _post(-0.04, 1.46, turn=90), _block(-0.3, 0.3), _dome(0.46, 1.1)),
        3,
        _upwards("dome", 0.24),
    ),
    # A ring, a disc, a cone and a post.
    Toy(
        "sign",
        (_post(0, 0.47), _ring(0, 1.25), _disc(-0.4, 0.26), _cone(0.42, 0.31)),
        1,
        _sizes("ring", 1.35),
    ),
    Toy(
        "tree",
        (_disc(0, 0.82), _cone(0, 0.31), _ring(0, 1.42), _post(0.52, 0.9)),
        3,
        _upwards("post", 0.34),
    ),
    Toy(
        "cycle",
        (_post(0.02, 0.74, turn=66), _ring(-0.46, 0.4), _disc(0.5, 0.26), _cone(-0.1, 1.26)),
        3,
        _sideways("cone", 0.34),
    ),
)
