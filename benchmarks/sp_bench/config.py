"""Settings of a comparison and of an evaluation, and the folder that is claimed for them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sp_bench.backbones import SMALL, model_input
from sp_bench.data.channel_stats import IMAGENET, ChannelStats
from sp_bench.data.dataset import GREY, RGB
from sp_bench.errors import UsageError
from sp_bench.results import write_json
from sp_plugin.validation import did_you_mean

_SETTINGS = "settings.json"
_WEIGHTS = "weights_sha256"  # in the settings of an evaluation
METHOD_NAMES = ("simclr", "moco", "byol", "dino", "mae", "vicreg", "barlowtwins")
PRETEXT_NAMES = ("sp", "augself", "masked_crops", "relative_location", "shuffled_targets")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
CONVERTIBLE = (GREY.channels, RGB.channels)
_CHOICES = {"method": METHOD_NAMES, "pretext": PRETEXT_NAMES, "precision": PRECISIONS}
_MINIMA = {"epochs": 1, "side": 16, "batch_size": 2, "workers": 1}
_MIN_TRAINING_IMAGES = 10
_SMALL_SIDE, _SIDE = 64, 224


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """Settings of tasks and their images, which comparisons and evaluations have in common.

    Attributes:
        tasks: names of the tasks of the evaluation.
        task_data: source of each task that has other images than the rest.
        limit: maximum number of training images; None for all.
        channels: 1 or 3, to which grey and RGB images are converted; None: that of the
            checkpoint's run if sp-bench made it, else 3 with a checkpoint or a published model,
            else 1 if all are grey.
        mean: mean of each channel, by which images are normalised; None: that of the checkpoint's
            run or of the published model, else ImageNet's for RGB, else measured on the
            training images.
        std: standard deviation of each channel, with ``mean``.
    """

    tasks: tuple[str, ...] = ()
    task_data: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        mean, std = self.mean, self.std
        if self.channels not in (None, *CONVERTIBLE):
            raise UsageError(
                f"channels: got {self.channels}, takes 1 or 3, to which grey and RGB images are "
                "converted; other numbers are those of the data"
            )
        if (mean is None) != (std is None):
            raise UsageError("mean: takes --mean and --std together, a number for each channel")
        if mean is None or std is None:
            return
        if len(mean) != len(std):
            raise UsageError(f"std: got {len(std)} numbers for {len(mean)} of mean, takes as many")
        if not all(map(math.isfinite, mean)):
            raise UsageError(f"mean: got {list(mean)}, takes finite numbers")
        if not all(0 < value < math.inf for value in std):
            raise UsageError(f"std: got {list(std)}, takes numbers above 0")

    @property
    def given_stats(self) -> ChannelStats | None:
        """Mean and standard deviation of each channel, if the settings have them."""
        if self.mean is None or self.std is None:
            return None
        return ChannelStats(tuple(self.mean), tuple(self.std))

    @property
    def stats(self) -> ChannelStats:
        """Mean and standard deviation of each channel: the given ones, or ImageNet's."""
        return self.given_stats or IMAGENET

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, with lists for tuples."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values


@dataclass(frozen=True)
class Settings(TaskSettings):
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
        validation: whether a fifth of the training images replaces the test images, which stay
            unseen while settings are chosen.
        workers: number of processes that load images; the views depend on it.
        precision: name of Lightning's precision.
        sp: settings of SP, for the SP arm.
        longer: whether there is a third arm, a baseline with SP's extra compute as more epochs.
        pretext: pretext task of the SP arm: ``sp``, or a peer instead of it.
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
    validation: bool = False
    workers: int = 1
    precision: str = "32-true"
    sp: dict[str, Any] = field(default_factory=dict)
    longer: bool = False
    pretext: str = "sp"
    rgb: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise UsageError(f"{name}: no {value!r}; {did_you_mean(value, known)}")
        if self.backbone.startswith(("hf:", "torchvision:")):
            raise UsageError(
                f"backbone: got {self.backbone!r}, which eval takes; pre-training takes small "
                "ones, ResNets of torchvision and timm:NAME"
            )
        for name, minimum in {**_MINIMA, "limit": _MIN_TRAINING_IMAGES}.items():
            _check_minimum(name, getattr(self, name), minimum)
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate: got {self.learning_rate}, takes a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"weight_decay: got {self.weight_decay}, takes a number from 0 up")
        super().__post_init__()


@dataclass(frozen=True)
class EvalSettings(TaskSettings):
    """Settings of the evaluation of one backbone.

    Attributes:
        backbone: name, as for `make_backbone`.
        pretrained: whether it is the published model: in weights, unless a checkpoint has them,
            in image size and in normalisation.
        checkpoint: checkpoint file; empty: random weights, or the published ones.
        prefix: part of the prefix of the backbone's keys in the checkpoint; None: the one with
            the most matches.
        allow_partial: whether the backbone and the checkpoint may lack weights of each other.
        trust: whether the checkpoint may run code, as for `read_weights`.
        data: source of all tasks; None: each task has its own.
        side: side of the images in pixels, at least 16; None: that of the checkpoint's run if
            sp-bench made it, that of the published model, else 64 for the small backbones and
            224 for others.
        pool: pooling of token outputs, ``mean`` or ``cls``; None: that of the checkpoint's run if
            sp-bench made it, else ``mean``.
        layer: dotted name of the submodule whose output is taken; None: the last.
        seed: seed of the random backbone that tasks compare with.
        bf16: whether features are computed in bfloat16.
    """

    backbone: str
    pretrained: bool = False
    checkpoint: str = ""
    prefix: str | None = None
    allow_partial: bool = False
    trust: bool = False
    data: str | None = None
    side: int | None = None
    pool: str | None = None
    layer: str | None = None
    seed: int = 0
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.pool not in (None, "mean", "cls"):
            raise UsageError(f"pool: got {self.pool!r}, takes mean or cls")
        _check_minimum("side", self.side, _MINIMA["side"])
        check_seed(self.seed)
        super().__post_init__()

    @property
    def resolved_side(self) -> int:
        """``side``, or its default."""
        if self.side:
            return self.side
        if self.pretrained:
            return model_input(self.backbone).side
        trained = settings_of_run(Path(self.checkpoint)).get("side") if self.checkpoint else None
        default = _SMALL_SIDE if self.backbone in SMALL else _SIDE
        return trained if isinstance(trained, int) else default

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, with ``side`` resolved."""
        return {**super().plain(), "side": self.resolved_side}


def _check_minimum(name: str, value: int | None, minimum: int) -> None:
    if value is not None and value < minimum:
        raise UsageError(f"{name}: got {value}, takes a whole number from {minimum} up")


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


def claim_output_dir(out: Path, settings: Any, weights: str = "") -> None:
    """Create ``out`` with a file of these settings, or check that it has the same settings.

    A setting that the file lacks, since it is older, has to be off.

    Args:
        out: folder.
        settings: settings with a method ``plain``.
        weights: digest of the weights that are evaluated; empty: there are none, or they are gone.

    Raises:
        UsageError: the folder has other settings, results of other weights, or other content.
    """
    path = out / _SETTINGS
    values = settings.plain()
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(
                f"out: {out} is in use for something else; takes a new or empty folder"
            )
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, {**values, _WEIGHTS: weights} if weights else values)
        return
    previous = json.loads(path.read_text())
    for key in different_settings(previous, values):
        raise UsageError(
            f"out: {out} was made with {key}={previous.get(key)!r}, now it is {values[key]!r}; "
            "give another --out"
        )
    # Folders of earlier versions have no digest.
    if weights and previous.get(_WEIGHTS, weights) != weights:
        raise UsageError(
            f"out: {out} was made with other weights, the checkpoint has changed since; give "
            "another --out"
        )


def different_settings(previous: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Settings that differ from previous ones, which may lack a later setting that is off.

    >>> different_settings({"epochs": 3}, {"epochs": 4, "validation": False})
    ['epochs']
    """
    is_off = {key: key not in previous and not values[key] for key in values}
    return [key for key in values if previous.get(key) != values[key] and not is_off[key]]


def settings_of_run(checkpoint: Path) -> dict[str, Any]:
    """Settings with which sp-bench trained a checkpoint; empty for others.

    ``compare`` writes its settings above the folders of its runs, ``suite`` into them.
    """
    for folder in checkpoint.parents[:2]:
        path = folder / _SETTINGS
        settings = dict(json.loads(path.read_text())) if path.is_file() else {}
        if "method" in settings:
            return settings
    return {}
