"""`LoadReport`: which weights of a backbone a checkpoint had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MAX_NAMES = 3


@dataclass(frozen=True)
class LoadReport:
    """Which weights of a backbone were loaded.

    Attributes:
        prefix: prefix of the backbone's keys in the checkpoint.
        naming: naming of the keys, a key of ``RENAMES``.
        matched: keys that were loaded.
        missing: keys of the backbone that are not in the checkpoint.
        mismatched: keys whose weights have another shape; not loaded.
        unexpected: keys below the prefix that are not the backbone's.
        resampled: position embeddings that were resampled to another number of patches.
    """

    prefix: str
    naming: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    resampled: tuple[str, ...] = ()

    @property
    def num_weights(self) -> int:
        """Number of the backbone's weights."""
        return len(self.matched) + len(self.missing) + len(self.mismatched)

    @property
    def share(self) -> float:
        """Fraction of the backbone's weights that were loaded."""
        return len(self.matched) / self.num_weights if self.num_weights else 0.0

    def summary(self) -> str:
        """One line with the matched and the unmatched keys."""
        below = f"below {self.prefix!r}" if self.prefix else "without a prefix"
        parts = [f"{len(self.matched)} of {self.num_weights} weights matched {below}"]
        for label, keys in (
            ("missing", self.missing),
            ("of another shape", self.mismatched),
            ("resampled", self.resampled),
            ("not the backbone's", self.unexpected),
        ):
            if keys:
                parts.append(f"{len(keys)} {label} ({name_some(keys)})")
        return "; ".join(parts)


def name_some(keys: Sequence[str]) -> str:
    """The first names of a list, and dots for the others.

    >>> name_some(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join([*keys[:_MAX_NAMES], *(["..."] if len(keys) > _MAX_NAMES else [])])
