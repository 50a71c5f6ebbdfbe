"""Settings of a comparison, as resolved from the command line."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from sp_bench.errors import UsageError
from sp_bench.results import write_json
from sp_plugin.validation import did_you_mean

METHOD_NAMES = ("simclr", "moco", "byol", "dino", "mae", "vicreg", "barlowtwins")
PRETEXTS = ("sp", "augself", "relative_location")


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a comparison measures, but for its seeds.

    Attributes:
        method: the host.
        backbone: see `sp_bench.backbones`.
        data: ``demo``, a folder, or a name of torchvision.
        epochs: of pre-training.
        side: of the host's full views in pixels; images are evaluated at this side too.
        batch_size: images in a step.
        learning_rate: for a batch of 256.
        weight_decay: of AdamW.
        limit: use this many training images at most.
        validation: hold a fifth of the training images out, and evaluate on these: the test
            images stay unseen while settings are chosen.
        workers: processes that load images; the views depend on their number.
        precision: as Lightning names it.
        tasks: what is evaluated.
        task_data: the source of each task that is asked about other images than ``data``.
        sp: settings of SP, in the SP arm.
        longer: whether a third arm, a baseline, is given SP's extra compute as more epochs.
        pretext: what stands beside the method in the SP arm: ``sp``, or a peer in its place.
    """

    method: str = "simclr"
    backbone: str = "tiny_resnet"
    data: str = "demo"
    epochs: int = 20
    side: int = 64
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    limit: int | None = None
    validation: bool = False
    workers: int = 1
    precision: str = "32-true"
    tasks: tuple[str, ...] = ()
    task_data: dict[str, str] = field(default_factory=dict)
    sp: dict[str, Any] = field(default_factory=dict)
    longer: bool = False
    pretext: str = "sp"

    def __post_init__(self) -> None:
        if self.method not in METHOD_NAMES:
            raise UsageError(
                f"method: no {self.method!r}; {did_you_mean(self.method, METHOD_NAMES)}"
            )
        if self.pretext not in PRETEXTS:
            raise UsageError(
                f"pretext: no {self.pretext!r}; {did_you_mean(self.pretext, PRETEXTS)}"
            )
        least = {"epochs": 1, "side": 16, "batch_size": 2, "limit": 10, "workers": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UsageError(f"{name}: got {value}, takes a whole number from {low} up")
        if self.learning_rate <= 0:
            raise UsageError(f"learning_rate: got {self.learning_rate}, takes a number above 0")

    def plain(self) -> dict[str, Any]:
        """As it stands in JSON: lists for tuples."""
        told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return told


def usual_backbone(method: str) -> str:
    """The small backbone that a method takes where none is named: MAE masks tokens.

    >>> usual_backbone("mae")
    'tiny_vit'
    """
    return "tiny_vit" if method == "mae" else "tiny_resnet"


def half_the_cores() -> int:
    """Workers to load images: half the cores, 8 at most; training computes on the others."""
    return max(1, min(8, (os.cpu_count() or 2) // 2))


def fast_precision() -> str:
    """bfloat16 where the processor or the GPU computes in it, float32 elsewhere."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


class Plain(Protocol):
    """Settings that can be written."""

    def plain(self) -> dict[str, Any]:
        """As they stand in JSON."""


def claim_output_dir(out: Path, settings: Plain) -> None:
    """Make ``out`` the folder of these settings, or go on in it if it is already.

    Raises:
        UsageError: it is a folder of other settings, or of something else.
    """
    path = out / "settings.json"
    wanted = settings.plain()
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(
                f"out: {out} is in use for something else; takes a new or empty folder"
            )
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
        return
    made = json.loads(path.read_text())
    for key in wanted:
        if made.get(key) != wanted[key]:
            raise UsageError(
                f"out: {out} was made with {key}={made.get(key)!r}, now it is {wanted[key]!r}; "
                "give another --out"
            )
