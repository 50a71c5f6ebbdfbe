"""TargetEncoder: from a pair of boxes to what the head must predict, and back.

With d = centre_b - centre_a and A = w h, every encoding is (x, y, sigma) with
sigma = 1/2 ln(A_b / A_a), and

- ``symmetric``: x = dx / sqrt(w_a w_b), y likewise. The same under shift and zoom of the frame;
  antisymmetric, t(b, a) = -t(a, b).
- ``anchor``: x = dx / w_a, y = dy / h_a: the code of R-CNN (Girshick et al. 2014, appendix C).
  The same under shift and zoom; not antisymmetric.
- ``image``: x = dx, y = dy. Antisymmetric and additive; changes when the image was cropped.

The paper speaks of a continuous geometric space; the encodings are our choice. Aspect is left
out: half its log difference has a standard deviation of 0.117 only. Nothing is clipped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sp_plugin.crops.boxes import box_area
from sp_plugin.crops.sampler import CropSampler

ENCODINGS = ("symmetric", "anchor", "image")
ANTISYMMETRIC = ("symmetric", "image")
MIN_STD = 1e-4  # a standard deviation beneath which a target does not vary
_DRAWS = 32768


def unnormalized_targets(a: Tensor, b: Tensor, encoding: str) -> Tensor:
    """The encoding of each pair, before it is divided by the constants.

    Args:
        a, b: boxes (..., 4).
        encoding: one of ``ENCODINGS``.

    Returns:
        (..., 3): x, y and sigma.

    >>> a, b = torch.tensor([0.2, 0.5, 0.1, 0.1]), torch.tensor([0.6, 0.5, 0.4, 0.4])
    >>> [round(v, 3) for v in unnormalized_targets(a, b, "symmetric").tolist()]
    [2.0, 0.0, 1.386]
    """
    sigma = (box_area(b) / box_area(a)).log() / 2
    shift = (b[..., :2] - a[..., :2]) / _offset_unit(a, b[..., 2:], encoding)
    return torch.cat([shift, sigma.unsqueeze(-1)], dim=-1)


def _offset_unit(a: Tensor, sides_b: Tensor, encoding: str) -> Tensor:
    """What a shift is measured in, (..., 2)."""
    sides_a = a[..., 2:]
    if encoding == "symmetric":
        return (sides_a * sides_b).sqrt()
    if encoding == "anchor":
        return sides_a
    return torch.ones_like(sides_a)


class TargetEncoder(nn.Module):
    """Encodes pairs of boxes as targets of unit variance, and decodes them again.

    The constants are the standard deviations under the sampler in use, from a seeded draw made
    once, never batch statistics: so an MSE of 1 is chance in every encoding, and a weight means
    the same in each. A sampler that moves with training is averaged over the whole of it, so
    that a target keeps its meaning. `CropSampler` shuffles an image's crops, so that every pair
    of them has one distribution, and the constants of some are those of all: over 100,000 images
    with 4 or 8 crops no pair's standard deviation was off by more than 1%.

    Args:
        sampler: what draws the crops.
        encoding: ``symmetric``, ``anchor`` or ``image``.

    Attributes:
        std: (3,) buffer, the standard deviations of x, y and sigma.

    >>> targets = TargetEncoder(CropSampler(), "symmetric")
    >>> a, b = CropSampler()(1000, torch.Generator().manual_seed(1))
    >>> targets.encode(a, b).std(dim=0).round().tolist()
    [1.0, 1.0, 1.0]
    """

    std: Tensor

    def __init__(self, sampler: CropSampler, encoding: str = "symmetric") -> None:
        super().__init__()
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding: got {encoding!r}, takes one of {', '.join(ENCODINGS)}")
        self.encoding = encoding
        generator = torch.Generator(device="cpu").manual_seed(0)
        half = sampler.num_crops // 2  # pairs of which none shares a crop with another
        progress = torch.linspace(0, 1, _DRAWS // half, device="cpu")
        boxes = sampler(len(progress), generator, progress)
        raw = unnormalized_targets(boxes[:half], boxes[half : 2 * half], encoding)
        self.register_buffer("std", torch.ones(3))
        self.set_std(raw.flatten(0, 1).std(dim=0))

    def set_std(self, spread: Tensor) -> None:
        """Take the standard deviations (3,) of x, y and sigma that targets are divided by."""
        # Crops of one size only, or without a shift: nothing to learn there, nothing to divide by.
        self.std.copy_(torch.where(spread > MIN_STD, spread, torch.ones_like(spread)))

    def encode(self, a: Tensor, b: Tensor) -> Tensor:
        """Targets (..., 3) of pairs of boxes (..., 4): x, y, sigma, in standard deviations."""
        return unnormalized_targets(a, b, self.encoding) / self.std

    def decode(self, target: Tensor, a: Tensor) -> Tensor:
        """The box b that a target says, seen from box a; b is given a's aspect.

        Args:
            target: (..., 3), as ``encode`` or the head gives it.
            a: (..., 4).

        Returns:
            (..., 4). ``decode(encode(a, b), a)`` is b where both have the same aspect.
        """
        raw = target * self.std
        sides = a[..., 2:] * raw[..., 2:].exp()
        return torch.cat(
            [a[..., :2] + raw[..., :2] * _offset_unit(a, sides, self.encoding), sides], -1
        )

    def extra_repr(self) -> str:
        return f"encoding={self.encoding!r}"
