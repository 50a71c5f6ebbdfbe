"""Training runs whose steps are timed: methods with backbones and sizes, and what is added."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sp_bench.config import Settings
from sp_bench.speed.settings import SpeedSettings
from sp_plugin.objective.pairs import ALL, num_all_pairs

PLAIN = "host alone"


@dataclass(frozen=True)
class Case:
    """A training run that SP or a peer is added to.

    Attributes:
        method: name in `sp_bench.methods`.
        backbone: name as for `sp_bench.backbones`.
        side: side of the full views, in pixels.
        batch_size: images per step.
    """

    method: str
    backbone: str
    side: int
    batch_size: int

    @property
    def name(self) -> str:
        """Name in a table."""
        backbone = _SHORT.get(self.backbone, self.backbone)
        return f"{self.method}, {backbone}, {self.side} px, batch {self.batch_size}"

    def settings(self, precision: str) -> Settings:
        """Settings of such a run in a comparison."""
        return Settings(
            method=self.method,
            backbone=self.backbone,
            side=self.side,
            batch_size=self.batch_size,
            precision=precision,
        )


@dataclass(frozen=True)
class Arm:
    """What is added to a training run.

    Attributes:
        name: name in a table.
        sp: settings of SP; None (default) without SP.
        peer: ``augself`` or ``drloc``, of `sp_bench.speed.peers`; empty (default) without a peer.
        has_probe: whether the spatial probe acts in each step; default False.
    """

    name: str
    sp: dict[str, Any] | None = None
    peer: str = ""
    has_probe: bool = False


_VIT = "vit_small_patch16_224"
_SHORT = {_VIT: "vit_small/16"}

ALONE = Arm(PLAIN)
SP = Arm("SP", {})
WHOLE = Arm("SP, sample_fraction=1", {"sample_fraction": 1.0})
HOST_VIEWS = Arm("SP, source=host_views", {"source": "host_views"})
PROBE_EVERY = 4  # the default; a round has only two steps, so the timed probe acts in each
PROBE = Arm("spatial probe in each step", has_probe=True)
PEER_ARMS = (Arm("AugSelf", peer="augself"), Arm("Drloc", peer="drloc"))
_WITH_HOST_VIEWS = ("simclr", "dino")  # two views; two views and local ones


# Side of the views, and batch size per backbone, for steps of a second or less.
_SIZES: dict[str, tuple[int, dict[str, int]]] = {
    "cpu": (64, {"resnet18": 32, "resnet50": 16, _VIT: 16}),
    "cuda": (224, {"resnet18": 256, "resnet50": 128, _VIT: 128}),
    "quick": (32, {"tiny_resnet": 4, "tiny_vit": 4}),
}


def step_cases(settings: SpeedSettings) -> list[Case]:
    """The runs that are timed with and without SP.

    >>> [case.name for case in step_cases(SpeedSettings(quick=True, device="cpu"))]
    ['simclr, tiny_resnet, 32 px, batch 4', 'mae, tiny_vit, 32 px, batch 4']
    """
    side, batch_sizes = _SIZES["quick" if settings.quick else settings.device]
    # Methods, with a part of the names of the backbones that they are timed with.
    methods = {"simclr": "", "byol": "", "dino": "", "mae": "vit"}
    if settings.quick:
        methods = {"simclr": "resnet", "mae": "vit"}
    return [
        Case(method, backbone, side, batch_size)
        for backbone, batch_size in batch_sizes.items()
        for method, kind in methods.items()
        if kind in backbone
    ]


def host_view_arms(case: Case) -> tuple[Arm, ...]:
    """SP on the method's own views, for some of the methods."""
    return (HOST_VIEWS,) if case.method in _WITH_HOST_VIEWS else ()


def sp_arms(case: Case) -> tuple[Arm, ...]:
    """The ways in which SP is added to a run, and the spatial probe.

    >>> [arm.name for arm in sp_arms(Case("byol", "tiny_vit", 32, 4))]
    ['SP', 'SP, sample_fraction=1', 'spatial probe in each step']
    """
    return (SP, WHOLE, PROBE, *host_view_arms(case))


def peer_cases(settings: SpeedSettings) -> list[Case]:
    """The runs that are timed with peers."""
    side, batch_sizes = _SIZES["quick" if settings.quick else settings.device]
    return [
        Case("simclr", backbone, side, batch_size)
        for backbone, batch_size in batch_sizes.items()
        if backbone != "resnet50"
    ]


def k_case(settings: SpeedSettings) -> Case:
    """The run that is timed with 2 to 8 crops, with half the batch size."""
    case = peer_cases(settings)[0]
    return dataclasses.replace(case, batch_size=max(4, case.batch_size // 2))


def k_arms(settings: SpeedSettings) -> list[Arm]:
    """SP on all images with 2 to 8 crops, with all their pairs and with one pair."""
    arms = []
    for crops in (2, 3) if settings.quick else range(2, 9):
        name = f"{crops} crops, all {num_all_pairs(crops)} pairs"
        whole = {**(WHOLE.sp or {}), "num_crops": crops}
        arms.append(Arm(name, {**whole, "num_pairs": ALL}))
        if crops > 2:
            arms.append(Arm(f"{crops} crops, 1 pair", {**whole, "num_pairs": 1}))
    return arms
