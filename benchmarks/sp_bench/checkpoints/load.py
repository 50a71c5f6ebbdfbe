"""`load_checkpoint`: the weights of a backbone from a checkpoint of any framework.

The steps are: read the tensors; list the candidate prefixes; match the keys below each prefix, by
each naming, with the backbone's; choose the student; check that all weights match; load. Nothing
is written before the last step.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from sp_bench.checkpoints.key_mapping import (
    RENAMES,
    is_classifier,
    is_counter,
    is_removable,
    rename_weights,
)
from sp_bench.checkpoints.load_report import LoadReport, name_some
from sp_bench.checkpoints.prefixes import (
    candidate_prefixes,
    drop_wrappers,
    is_copy,
    select_prefixes,
)
from sp_bench.checkpoints.read import read_weights
from sp_bench.errors import UsageError

PARTIAL_OPTION = "--allow-partial"
_MANY = 0.5  # a student with a smaller fraction of the backbone's weights is none
_POSITIONS = "pos_embed"
# Parts of a backbone that others lack as a whole; a projector or a decoder is none.
_OWN_PARTS = {"cls_token", "dist_token", "norm_pre", "reg_token", "register_tokens"}


class _Candidate(NamedTuple):
    report: LoadReport
    weights: dict[str, Tensor]
    extra: list[str]  # of the unexpected keys, those that change what the backbone computes


def load_checkpoint(
    backbone: nn.Module,
    path: Path,
    *,
    prefix: str | None = None,
    allow_partial: bool = False,
    trust: bool = False,
) -> LoadReport:
    """Load a checkpoint of any framework into a backbone, in place.

    The prefix of the keys, such as ``backbone.`` or ``student.backbone.``, is the one with the
    most matches; the student is preferred to its teacher or another copy of it.

    Args:
        backbone: module whose weights are replaced.
        path: checkpoint file.
        prefix: part of the keys' prefix, at any place, such as ``momentum_backbone.`` or
            ``teacher``; None: the one with the most matches.
        allow_partial: whether the backbone and the checkpoint may lack weights of each other.
        trust: as for `read_weights`.

    Raises:
        UsageError: the file cannot be read, has no such prefix, lacks weights of the backbone, has
            more layers or parts of layers than it, or has two backbones of which none is known as
            a copy.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"net.bias": torch.ones(1)}, f"{folder}/a.pt")
    ...     path = Path(f"{folder}/a.pt")
    ...     load_checkpoint(nn.Linear(1, 1), path, allow_partial=True).summary()
    "1 of 2 weights matched below 'net.'; 1 missing (weight)"
    """
    weights = drop_wrappers(read_weights(path, trust))
    prefixes = candidate_prefixes(weights)
    if prefix is not None:
        prefixes = select_prefixes(prefix, prefixes)
    report, matched, extra = _choose_student(_match_all(backbone, weights, prefixes), path)
    # timm's models give their features before it; of others it is removed, and the rest is used.
    may_lack = callable(getattr(backbone, "forward_features", None))
    missing = [key for key in report.missing if not (may_lack and is_classifier(key))]
    if not matched or ((missing or report.mismatched) and not allow_partial):
        raise UsageError(_why_incomplete(path, report, missing))
    if extra and not allow_partial:
        raise UsageError(
            f"checkpoint: {path}: --backbone lacks {len(extra)} of its weights "
            f"({name_some(extra)}); takes a --backbone that has them, or {PARTIAL_OPTION}"
        )
    backbone.load_state_dict(matched, strict=False)
    return report


def _match_all(
    backbone: nn.Module, weights: Mapping[str, Tensor], prefixes: Iterable[str]
) -> list[_Candidate]:
    """Best naming below each prefix, in the order of the prefixes; in a tie the first."""
    own = {key: value for key, value in backbone.state_dict().items() if not is_counter(key)}
    candidates = []
    for prefix in prefixes:
        below = {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix) and not is_counter(key)
        }
        namings = {name: rename_weights(below, renames) for name, renames in RENAMES.items()}
        best = max(namings, key=lambda name: len(namings[name].keys() & own.keys()))
        candidates.append(_match(backbone, own, namings[best], prefix, best))
    return candidates


def _choose_student(candidates: Sequence[_Candidate], path: Path) -> _Candidate:
    """The candidate with the most matches, of those that are no copies if these match at all.

    Raises:
        UsageError: two have as many matches and other weights.
    """
    students = [
        candidate
        for candidate in candidates
        if candidate.report.share >= _MANY and not is_copy(candidate.report.prefix)
    ]
    first, *others = sorted(
        students or candidates, key=lambda candidate: -len(candidate.report.matched)
    )
    for other in others:
        if len(other.report.matched) < len(first.report.matched) or first.report.share < _MANY:
            break
        if not all(torch.equal(first.weights[key], other.weights[key]) for key in first.weights):
            names = f"{first.report.prefix!r} and {other.report.prefix!r}"
            raise UsageError(
                f"checkpoint: {path}: {names} match equally well and differ; which is meant? "
                "--prefix PREFIX names it"
            )
    return first


def _why_incomplete(path: Path, report: LoadReport, missing: Sequence[str]) -> str:
    """One line: what matched, what is missing, the nearest keys, and what to do."""
    line = f"checkpoint: {path}: {report.summary()}"
    if report.share < _MANY:
        return f"{line}; is it of another architecture than --backbone?"
    for key in missing[:1]:
        near = difflib.get_close_matches(key, report.unexpected, n=1, cutoff=0.5)
        line += f"; nearest to {key} is {near[0]}" if near else ""
    return f"{line}; it takes all of them, or {PARTIAL_OPTION}"


def _match(
    backbone: nn.Module,
    own: Mapping[str, Tensor],
    candidate: Mapping[str, Tensor],
    prefix: str,
    naming: str,
) -> _Candidate:
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
    unexpected = sorted(candidate.keys() - own.keys())
    parts = {key.split(".")[0] for key in own} | _OWN_PARTS
    extra = [
        key
        for key in unexpected
        if key.split(".")[0] in parts and not is_removable(key, candidate[key])
    ]
    report = LoadReport(
        prefix=prefix,
        naming=naming,
        matched=tuple(matched),
        missing=tuple(sorted(own.keys() - candidate.keys())),
        mismatched=tuple(mismatched),
        unexpected=tuple(unexpected),
        resampled=tuple(key for key in resampled if key in matched),
    )
    return _Candidate(report, matched, extra)


def _resample_positions(value: Tensor, like: Tensor, backbone: nn.Module) -> Tensor:
    """Position embeddings for the backbone's patches, by timm; unchanged if it has no grid.

    They may lack those of the prefix tokens (``no_embed_class``, as DINOv2 with registers).
    """
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if value.ndim != 3 or value.shape[-1] != like.shape[-1] or grid is None:
        return value
    prefix = like.shape[1] - math.prod(grid)
    patches = value.shape[1] - prefix
    if min(prefix, patches) < 0 or math.isqrt(patches) ** 2 != patches:
        return value
    resampled: Tensor = resample_abs_pos_embed(value, list(grid), num_prefix_tokens=prefix)
    return resampled
