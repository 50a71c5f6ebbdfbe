"""Settings of a comparison, as resolved from the command line."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from sp_bench.channel_settings import check_channel_settings, given_stats
from sp_bench.data.channel_stats import IMAGENET, ChannelStats
from sp_bench.errors import UsageError
from sp_bench.results import write_json
from sp_plugin.validation import did_you_mean

METHOD_NAMES = ("simclr", "moco", "byol", "dino", "mae", "vicreg", "barlowtwins")
PRETEXT_NAMES = ("sp", "augself", "relative_location", "shuffled_targets")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
_MINIMA = {"epochs": 1, "side": 16, "batch_size": 2, "limit": 10, "workers": 1}


@dataclass(frozen=True)
class Settings:
    """Everything that defines what a comparison measures, except its seeds.

    Attributes:
        method: name of the self-supervised method.
        backbone: name of the backbone, see `sp_bench.backbones`.
        data: ``demo``, a folder, or the name of a data set of torchvision.
        epochs: number of pre-training epochs.
        side: side of the method's full views and of the images in evaluation, in pixels.
        batch_size: images per step.
        learning_rate: learning rate for a batch of 256.
        weight_decay: weight decay of AdamW.
        limit: maximum number of training images; None for all.
        validation: whether a fifth of the training images replaces the test images, which stay
            unseen while settings are chosen.
        workers: number of processes that load images; the views depend on it.
        precision: name of Lightning's precision.
        tasks: names of the tasks of the evaluation.
        task_data: source of each task that has other images than ``data``.
        sp: settings of SP, for the SP arm.
        longer: whether there is a third arm, a baseline with SP's extra compute as more epochs.
        pretext: pretext task of the SP arm: ``sp``, or a peer instead of it.
        channels: 1 or 3, to which grey and RGB images are converted; None: 1 if all are grey.
        mean: mean of each channel, by which images are normalised; None: ImageNet's for RGB, else
            measured on the training images.
        std: standard deviation of each channel, with ``mean``.
        rgb: the channels that are drawn as red, green and blue, from 0; None: see `RGBDisplay`.
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
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    rgb: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHOD_NAMES),
            ("pretext", PRETEXT_NAMES),
            ("precision", PRECISIONS),
        ):
            value = getattr(self, name)
            if value not in known:
                raise UsageError(f"{name}: no {value!r}; {did_you_mean(value, known)}")
        for name, minimum in _MINIMA.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise UsageError(f"{name}: got {value}, takes a whole number from {minimum} up")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate: got {self.learning_rate}, takes a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"weight_decay: got {self.weight_decay}, takes a number from 0 up")
        check_channel_settings(self)

    @property
    def stats(self) -> ChannelStats:
        """Mean and standard deviation of each channel: the given ones, or ImageNet's."""
        return given_stats(self) or IMAGENET

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, with lists for tuples."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values


def check_seed(seed: int) -> int:
    """The seed itself.

    Raises:
        UsageError: it is negative or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"seeds: got {seed}, takes whole numbers from 0 to 2**32 - 1")
    return seed


def default_backbone(method: str) -> str:
    """Small backbone of a method: a ViT for MAE, which masks tokens, else a ResNet.

    >>> default_backbone("mae")
    'tiny_vit'
    """
    return "tiny_vit" if method == "mae" else "tiny_resnet"


def default_workers() -> int:
    """Number of processes that load images: half the cores, at most 8; the rest compute."""
    return max(1, min(8, (os.cpu_count() or 2) // 2))


def fast_precision() -> str:
    """bfloat16 if the processor or the GPU computes in it, else float32."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bf16-mixed" if has_bf16 else "32-true"


class WritableSettings(Protocol):
    """Settings that can be written to ``settings.json``."""

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values."""


def claim_output_dir(out: Path, settings: WritableSettings) -> None:
    """Create ``out`` with a file of these settings, or check that it has the same settings.

    Raises:
        UsageError: the folder has other settings, or other content.
    """
    path = out / "settings.json"
    values = settings.plain()
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(
                f"out: {out} is in use for something else; takes a new or empty folder"
            )
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, values)
        return
    previous = json.loads(path.read_text())
    for key in values:
        if previous.get(key) != values[key]:
            raise UsageError(
                f"out: {out} was made with {key}={previous.get(key)!r}, now it is {values[key]!r}; "
                "give another --out"
            )
