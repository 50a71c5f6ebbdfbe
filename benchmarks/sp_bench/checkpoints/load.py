"""`load_checkpoint`: the weights of a backbone from a checkpoint of any framework.

The steps are: read the tensors; list the candidate prefixes; match the keys below each prefix, by
each naming, with the backbone's; check that enough match; load. Nothing is written before the
last step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from sp_bench.checkpoints.key_mapping import RENAMES, candidate_prefixes, is_counter, rename_key
from sp_bench.checkpoints.read import read_weights
from sp_bench.errors import UsageError
from sp_plugin.validation import did_you_mean

MIN_MATCHED = 0.5  # fraction of the backbone's weights
_MAX_NAMES = 3
_POSITIONS = "pos_embed"


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
                more = ", ..." if len(keys) > _MAX_NAMES else ""
                parts.append(f"{len(keys)} {label} ({', '.join(keys[:_MAX_NAMES])}{more})")
        return "; ".join(parts)


def load_checkpoint(
    backbone: nn.Module, path: Path, *, prefix: str | None = None, trust: bool = False
) -> LoadReport:
    """Load a checkpoint of any framework into a backbone, in place.

    The prefix of the keys, such as ``backbone.`` or ``module.student_backbone.``, is the one with
    the most matches; in a tie the student is preferred to its teacher.

    Args:
        backbone: module whose weights are replaced.
        path: checkpoint file.
        prefix: prefix of the keys, such as ``momentum_backbone.``; None: the one with the most
            matches.
        trust: as for `read_weights`.

    Raises:
        UsageError: the file cannot be read, has no such prefix, or has less than half of the
            backbone's weights.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"net.bias": torch.ones(1)}, f"{folder}/a.pt")
    ...     load_checkpoint(nn.Linear(1, 1), Path(f"{folder}/a.pt")).summary()
    "1 of 2 weights matched below 'net.'; 1 missing (weight)"
    """
    weights = read_weights(path, trust)
    prefixes = candidate_prefixes(weights)
    if prefix is not None:
        prefix = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
        if prefix not in prefixes:
            nearest = did_you_mean(prefix, prefixes)
            raise UsageError(f"checkpoint: nothing below {prefix!r}; {nearest}")
        prefixes = [prefix]
    report, matched = _best_match(backbone, weights, prefixes)
    if report.share < MIN_MATCHED:
        raise UsageError(
            f"checkpoint: {path}: {report.summary()}; it takes half of them: is it of another "
            "architecture than --backbone?"
        )
    backbone.load_state_dict(matched, strict=False)
    return report


def _best_match(
    backbone: nn.Module, weights: Mapping[str, Tensor], prefixes: Iterable[str]
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Report and weights of the prefix and naming with the most matches; in a tie the first."""
    own = {key: value for key, value in backbone.state_dict().items() if not is_counter(key)}
    best, best_weights = None, {}
    for prefix in prefixes:
        below = {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix) and not is_counter(key)
        }
        for naming, renames in RENAMES.items():
            candidate = {rename_key(key, renames): value for key, value in below.items()}
            if best and len(candidate.keys() & own.keys()) <= len(best.matched):
                continue  # it cannot be better
            report, matched = _match(backbone, own, candidate, prefix, naming)
            if best is None or len(matched) > len(best.matched):
                best, best_weights = report, matched
    assert best is not None  # there is at least one prefix
    return best, best_weights


def _match(
    backbone: nn.Module,
    own: Mapping[str, Tensor],
    candidate: Mapping[str, Tensor],
    prefix: str,
    naming: str,
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Weights of a candidate whose key and shape are the backbone's, and their report."""
    matched: dict[str, Tensor] = {}
    mismatched, resampled = [], []
    for key in sorted(own.keys() & candidate.keys()):
        value = candidate[key]
        if value.shape != own[key].shape and key.endswith(_POSITIONS):
            value = _resample_positions(value, own[key], backbone)
            resampled.append(key)
        if value.shape == own[key].shape:
            matched[key] = value
        else:
            mismatched.append(key)
    report = LoadReport(
        prefix=prefix,
        naming=naming,
        matched=tuple(matched),
        missing=tuple(sorted(own.keys() - candidate.keys())),
        mismatched=tuple(mismatched),
        unexpected=tuple(sorted(candidate.keys() - own.keys())),
        resampled=tuple(key for key in resampled if key in matched),
    )
    return report, matched


def _resample_positions(value: Tensor, like: Tensor, backbone: nn.Module) -> Tensor:
    """Position embeddings for the backbone's patches, by timm; unchanged if it has no grid."""
    prefix = getattr(backbone, "num_prefix_tokens", None)
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if value.ndim != 3 or value.shape[-1] != like.shape[-1] or prefix is None or grid is None:
        return value
    resampled: Tensor = resample_abs_pos_embed(value, list(grid), num_prefix_tokens=prefix)
    return resampled
