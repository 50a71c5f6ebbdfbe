"""Which weights of a checkpoint are a backbone's, and what is said of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from sp_bench.checkpoints.key_mapping import RENAMES, prefixes, renamed
from sp_bench.checkpoints.read import read_weights
from sp_bench.errors import UsageError
from sp_plugin.validation import did_you_mean

LEAST = 0.5  # of the backbone's weights
_NAMED = 3
_COUNTER = "num_batches_tracked"  # some hosts leave it out, and nothing is computed of it
_POSITIONS = "pos_embed"


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint gave a backbone.

    Attributes:
        prefix: of the backbone's names in the checkpoint.
        names: how the checkpoint calls them, a key of ``RENAMES``.
        matched: names that were loaded.
        missing: names of the backbone that the checkpoint does not have.
        shapes: names whose weights have another shape; they were left out.
        left: names below the prefix that the backbone does not have.
        resampled: position embeddings that were made to fit another number of patches.
    """

    prefix: str
    names: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    shapes: tuple[str, ...]
    left: tuple[str, ...]
    resampled: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the backbone's weights that were loaded."""
        whole = len(self.matched) + len(self.missing) + len(self.shapes)
        return len(self.matched) / whole if whole else 0.0

    def told(self) -> str:
        """What matched and what did not, in a line."""
        whole = len(self.matched) + len(self.missing) + len(self.shapes)
        below = f"below {self.prefix!r}" if self.prefix else "without a prefix"
        parts = [f"{len(self.matched)} of {whole} weights matched {below}"]
        for what, names in (
            ("missing", self.missing),
            ("of another shape", self.shapes),
            ("resampled", self.resampled),
            ("not the backbone's", self.left),
        ):
            if names:
                more = ", ..." if len(names) > _NAMED else ""
                parts.append(f"{len(names)} {what} ({', '.join(names[:_NAMED])}{more})")
        return "; ".join(parts)


def load_checkpoint(
    backbone: nn.Module, path: Path, *, prefix: str | None = None, trust: bool = False
) -> Loaded:
    """Load a checkpoint of any host into a backbone.

    Prefixes such as ``backbone.`` or ``module.student_backbone.`` are found by what matches best;
    of equals the student comes before its teacher.

    Args:
        backbone: is changed.
        path: the checkpoint.
        prefix: take what stands below this one, such as ``momentum_backbone.``.
        trust: as for `read_weights`.

    Raises:
        UsageError: it cannot be read, has no such prefix, or has less than half of the backbone's
            weights.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"net.bias": torch.ones(1)}, f"{folder}/a.pt")
    ...     load_checkpoint(nn.Linear(1, 1), Path(f"{folder}/a.pt")).told()
    "1 of 2 weights matched below 'net.'; 1 missing (weight)"
    """
    weights = read_weights(path, trust)
    known = prefixes(weights)
    if prefix is not None:
        prefix = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
        if prefix not in known:
            raise UsageError(f"checkpoint: nothing below {prefix!r}; {did_you_mean(prefix, known)}")
        known = [prefix]
    own = {name: value for name, value in backbone.state_dict().items() if _counts(name)}
    best, fitting = None, {}
    for candidate in known:
        below = _below(weights, candidate)
        for names, rules in RENAMES.items():
            given = {renamed(name, rules): value for name, value in below.items()}
            if best and len(given.keys() & own.keys()) <= len(best.matched):
                continue  # it cannot be better
            found, values = _match(own, given, candidate, names, backbone)
            if best is None or len(found.matched) > len(best.matched):
                best, fitting = found, values
    assert best is not None  # there is always the empty prefix
    if best.share < LEAST:
        raise UsageError(
            f"checkpoint: {path}: {best.told()}; it takes half of them: is it of another "
            "architecture than --backbone?"
        )
    backbone.load_state_dict(fitting, strict=False)
    return best


def _counts(name: str) -> bool:
    return not name.endswith(_COUNTER)


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix) and _counts(name)
    }


def _match(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    prefix: str,
    names: str,
    backbone: nn.Module,
) -> tuple[Loaded, dict[str, Tensor]]:
    values: dict[str, Tensor] = {}
    shapes, resampled = [], []
    for name in own.keys() & given.keys():
        value = given[name]
        if value.shape != own[name].shape and name.endswith(_POSITIONS):
            value = _resampled(value, own[name], backbone)
            resampled.append(name)
        if value.shape == own[name].shape:
            values[name] = value
        else:
            shapes.append(name)
    found = Loaded(
        prefix,
        names,
        matched=tuple(sorted(values)),
        missing=tuple(sorted(own.keys() - given.keys())),
        shapes=tuple(sorted(shapes)),
        left=tuple(sorted(given.keys() - own.keys())),
        resampled=tuple(sorted(set(resampled) & values.keys())),
    )
    return found, values


def _resampled(value: Tensor, like: Tensor, backbone: nn.Module) -> Tensor:
    """Position embeddings for as many patches as the backbone has, by timm."""
    prefix = getattr(backbone, "num_prefix_tokens", None)
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if value.ndim != 3 or value.shape[-1] != like.shape[-1] or prefix is None or grid is None:
        return value
    made: Tensor = resample_abs_pos_embed(value, list(grid), num_prefix_tokens=prefix)
    return made
