"""Targets: relative position and scale of two boxes, as the three numbers that the head predicts.

With d = centre_b - centre_a and A = w h, every target is (x, y, sigma), where
sigma = 1/2 ln(A_b / A_a) and (x, y) is d in the offset unit of the target encoding:

- ``symmetric``: x = dx / sqrt(w_a w_b), y likewise. Invariant to shift and zoom of the frame;
  antisymmetric, t(b, a) = -t(a, b).
- ``anchor``: x = dx / w_a, y = dy / h_a: the code of R-CNN (Girshick et al. 2014, appendix C).
  Invariant to shift and zoom; not antisymmetric.
- ``image``: x = dx, y = dy. Antisymmetric and additive; changes when the image was cropped.

The paper speaks of a continuous geometric space; the encodings are our choice. Aspect is left
out: half its log difference has a standard deviation of 0.117 only. Nothing is clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sp_plugin.crops.boxes import box_area
from sp_plugin.crops.sampler import CropSampler
from sp_plugin.validation import ConfigError, choice

__all__ = [
    "TARGET_ENCODINGS",
    "TargetEncoder",
    "TargetEncoding",
    "apply_flips",
    "target_std_of_views",
    "unnormalized_targets",
]

MIN_STD = 1e-4  # below this standard deviation a target is constant
_NUM_DRAWS = 32768
_NUM_ROLLS = 16


def _flips_must_agree(flips_a: Tensor, flips_b: Tensor) -> tuple[Tensor, Tensor]:
    """Flip both views and the offset changes its sign; flip one and no offset fits both."""
    return flips_a, flips_a == flips_b


def _flips_of_anchor(flips_a: Tensor, flips_b: Tensor) -> tuple[Tensor, Tensor]:
    """The offset is measured in a's own frame, so only the flip of a counts."""
    return flips_a, torch.ones_like(flips_a, dtype=torch.bool)


@dataclass(frozen=True)
class TargetEncoding:
    """One parametrisation of the relative position; an entry in ``TARGET_ENCODINGS``.

    Attributes:
        offset_unit: from the sides (..., 2) of a and b to the unit (..., 2) of the offset.
        antisymmetric: whether t(b, a) = -t(a, b), which the antisymmetric head requires.
        flip_rule: from the flips (P, 2) of views a and b (-1 or 1) to the signs (P, 2) of x and y,
            and to whether each of these counts (P, 2).
        unit_label: name of the offset's unit in reports.
        unit_digits: decimals of an offset in reports.
    """

    offset_unit: Callable[[Tensor, Tensor], Tensor]
    antisymmetric: bool
    flip_rule: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    unit_label: str
    unit_digits: int = 1


TARGET_ENCODINGS = {
    "symmetric": TargetEncoding(
        offset_unit=lambda sides_a, sides_b: (sides_a * sides_b).sqrt(),
        antisymmetric=True,
        flip_rule=_flips_must_agree,
        unit_label="crop sides",
    ),
    "anchor": TargetEncoding(
        offset_unit=lambda sides_a, sides_b: sides_a,
        antisymmetric=False,
        flip_rule=_flips_of_anchor,
        unit_label="sides of a",
    ),
    "image": TargetEncoding(
        offset_unit=lambda sides_a, sides_b: torch.ones_like(sides_a),
        antisymmetric=True,
        flip_rule=_flips_must_agree,
        unit_label="of the image",
        unit_digits=2,
    ),
}


def unnormalized_targets(a: Tensor, b: Tensor, target_encoding: str) -> Tensor:
    """Targets of pairs of boxes, before the division by their standard deviations.

    Args:
        a: boxes (..., 4).
        b: boxes (..., 4).
        target_encoding: key of ``TARGET_ENCODINGS``.

    Returns:
        (..., 3): x, y and sigma.

    >>> a, b = torch.tensor([0.2, 0.5, 0.1, 0.1]), torch.tensor([0.6, 0.5, 0.4, 0.4])
    >>> [round(v, 3) for v in unnormalized_targets(a, b, "symmetric").tolist()]
    [2.0, 0.0, 1.386]
    """
    sigma = (box_area(b) / box_area(a)).log() / 2
    unit = TARGET_ENCODINGS[target_encoding].offset_unit(a[..., 2:], b[..., 2:])
    offset = (b[..., :2] - a[..., :2]) / unit
    return torch.cat([offset, sigma.unsqueeze(-1)], dim=-1)


class TargetEncoder(nn.Module):
    """Encodes pairs of boxes as targets of unit variance, and decodes them.

    The standard deviations belong to the sampler in use and come from one seeded Monte-Carlo draw,
    never from batch statistics: so an MSE of 1 is chance in every encoding, and a weight means the
    same in each. A sampler whose settings move during training is averaged over all of it, so that
    a target keeps its meaning. `CropSampler` shuffles the crops of an image, so all pairs have one
    distribution: over 100,000 images with 4 or 8 crops no pair's standard deviation was off by more
    than 1%.

    Args:
        sampler: sampler of the crops.
        target_encoding: key of ``TARGET_ENCODINGS``.

    Attributes:
        std: (3,) buffer, standard deviations of x, y and sigma.

    >>> targets = TargetEncoder(CropSampler(), "symmetric")
    >>> a, b = CropSampler()(1000, torch.Generator().manual_seed(1))
    >>> targets.encode(a, b).std(dim=0).round().tolist()
    [1.0, 1.0, 1.0]
    """

    std: Tensor

    def __init__(self, sampler: CropSampler, target_encoding: str = "symmetric") -> None:
        super().__init__()
        self.target_encoding = choice(*TARGET_ENCODINGS)("target_encoding", target_encoding)
        self.register_buffer("std", torch.ones(3))
        self.set_std(_std_of_sampler(sampler, target_encoding))

    def set_std(self, std: Tensor) -> None:
        """Set the standard deviations (3,) of x, y and sigma that targets are divided by."""
        # Crops of one size, or without an offset: nothing to learn there, nothing to divide by.
        self.std.copy_(torch.where(std > MIN_STD, std, torch.ones_like(std)))

    def encode(self, a: Tensor, b: Tensor) -> Tensor:
        """Targets (..., 3) of pairs of boxes (..., 4): x, y, sigma, in standard deviations."""
        return unnormalized_targets(a, b, self.target_encoding) / self.std

    def decode(self, target: Tensor, a: Tensor) -> Tensor:
        """Box b from a target and box a; b gets a's aspect ratio.

        Args:
            target: (..., 3), as ``encode`` or the head returns it.
            a: (..., 4).

        Returns:
            (..., 4). ``decode(encode(a, b), a)`` is b where both have the same aspect ratio.
        """
        raw = target * self.std
        offset, sigma = raw[..., :2], raw[..., 2:]
        sides_b = a[..., 2:] * sigma.exp()
        unit = TARGET_ENCODINGS[self.target_encoding].offset_unit(a[..., 2:], sides_b)
        return torch.cat([a[..., :2] + offset * unit, sides_b], -1)

    def extra_repr(self) -> str:
        return f"target_encoding={self.target_encoding!r}"


def _std_of_sampler(sampler: CropSampler, target_encoding: str) -> Tensor:
    """Standard deviations (3,) of the targets under a sampler; drawn once for its settings."""
    settings = repr(sorted(vars(sampler).items()))
    encoding = TARGET_ENCODINGS[target_encoding]
    key = (type(sampler), settings, encoding, torch.get_default_dtype())
    std = _known_stds.get(key)
    if std is None:
        std = _draw_std(sampler, target_encoding)
        if type(std) is Tensor:  # not one of a mode without numbers
            _known_stds[key] = std
    return std


# A module is built more than once on the way to training, and a draw takes a tenth of a second.
_known_stds: dict[Any, Tensor] = {}


def _draw_std(sampler: CropSampler, target_encoding: str) -> Tensor:
    half = sampler.num_crops // 2  # pairs of which none shares a crop with another
    generator = torch.Generator(device="cpu").manual_seed(0)
    progress = torch.linspace(0, 1, _NUM_DRAWS // half, device="cpu")
    boxes = sampler(len(progress), generator, progress)
    targets = unnormalized_targets(boxes[:half], boxes[half : 2 * half], target_encoding)
    return targets.flatten(0, 1).std(dim=0)


def target_std_of_views(boxes: Tensor, target_encoding: str) -> Tensor:
    """Standard deviations of the targets between the method's own views, for `TargetEncoder`.

    Views of different runs are as independent as those of one run: each is paired with several.

    Args:
        boxes: (n, k, 4), k views in each of n runs of the method's transform; NaN is left out.
        target_encoding: key of ``TARGET_ENCODINGS``.

    Returns:
        (3,).

    Raises:
        ConfigError: all views show the same part of their image, or none has a box.
    """
    first, second = torch.triu_indices(boxes.shape[1], boxes.shape[1], offset=1)
    targets = [
        unnormalized_targets(boxes[:, first], boxes.roll(n, 0)[:, second], target_encoding)
        for n in range(_NUM_ROLLS)
    ]
    flat = torch.stack(targets).flatten(0, -2)
    std = flat[flat.isfinite().all(dim=1)].std(dim=0)
    if not (std > MIN_STD).any():
        raise ConfigError(
            "source: got 'host_views', but all views show the same part of their image; "
            "take 'view' or 'image' with this method"
        )
    return std


def apply_flips(target: Tensor, flips: Tensor, target_encoding: str) -> tuple[Tensor, Tensor]:
    """Targets of views that the method has flipped, each on its own.

    A flipped view shows its part of the image mirrored, and its features do not tell. Flip both
    views of a pair left to right and dx changes its sign; dy and sigma stay. Where only one is
    flipped, "right of a" means the opposite in b, and no antisymmetric dx fits both: it does not
    count. The same holds for dy and views flipped top to bottom.

    Args:
        target: (P, 3) of pairs of boxes in the unflipped image; NaN where a box is unknown.
        flips: (2, P, 2) of views a and b, -1 where one is flipped left to right, top to bottom,
            else 1.
        target_encoding: key of ``TARGET_ENCODINGS``, whose ``flip_rule`` is applied.

    Returns:
        Targets (P, 3), finite; and a mask (P, 3), 1 where a number counts and 0 where not.

    >>> target = torch.tensor([[2.0, 1.0, 0.5]])
    >>> flipped, straight = torch.tensor([[-1.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    >>> apply_flips(target, torch.stack([flipped, flipped]), "symmetric")[0].tolist()
    [[-2.0, 1.0, 0.5]]
    >>> apply_flips(target, torch.stack([flipped, straight]), "symmetric")[1].tolist()
    [[0.0, 1.0, 1.0]]
    """
    signs, valid = TARGET_ENCODINGS[target_encoding].flip_rule(*flips.unbind())
    known = target.isfinite().all(dim=1, keepdim=True)
    mask = known & torch.cat([valid, torch.ones_like(known)], dim=1)
    signs = torch.cat([signs, torch.ones_like(signs[:, :1])], dim=1)
    flipped = torch.where(known, target * signs, torch.zeros_like(target))
    return flipped, mask.to(target.dtype)
