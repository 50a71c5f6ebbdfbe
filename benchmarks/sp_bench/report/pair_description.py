"""The target of a pair, in words."""

from __future__ import annotations

from torch import Tensor

from sp_plugin.objective.targets import TARGET_ENCODINGS, unnormalized_targets


def describe_pair(a: Tensor, b: Tensor, encoding: str) -> str:
    """Location and size of b relative to a, in the units of a target encoding.

    Args:
        a: box (4,), (cx, cy, w, h) as fractions of the image.
        b: box (4,).
        encoding: key of ``TARGET_ENCODINGS``, which name the unit of the shift.

    Returns:
        Two lines: the shift, and the side of b in sides of a.

    >>> import torch
    >>> a, b = torch.tensor([0.3, 0.6, 0.2, 0.2]), torch.tensor([0.7, 0.5, 0.2, 0.2])
    >>> print(describe_pair(a, b, "symmetric"))
    b lies 2.0 crop sides right of a, 0.5 above;
    it is as large as a
    """
    x, y, sigma = unnormalized_targets(a, b, encoding)
    shown = TARGET_ENCODINGS[encoding]
    shift = _shift(float(x), float(y), shown.unit_digits, shown.unit_label)
    lines = shift, _size(float(sigma.exp()))
    return ";\n".join(lines)


def _shift(x: float, y: float, digits: int, unit: str) -> str:
    right, down = round(x, digits), round(y, digits)
    across = f"{abs(right):.{digits}f}"
    along = f"{abs(down):.{digits}f}"
    sideways, upwards = "right" if right > 0 else "left", "below" if down > 0 else "above"
    if right and down:
        return f"b lies {across} {unit} {sideways} of a, {along} {upwards}"
    if right:
        return f"b lies {across} {unit} {sideways} of a, level with it"
    if down:
        return f"b lies {along} {unit} straight {upwards} a"
    return "b has its centre on a's"


def _size(ratio: float) -> str:
    if round(ratio, 2) == 1:
        return "it is as large as a"
    return f"it is {'larger' if ratio > 1 else 'smaller'}, its side {ratio:.2f} times a's"
