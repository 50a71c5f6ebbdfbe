"""What is stepped: hosts with their backbones and sizes, and the arms that are set beside them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from sp_bench.config import Settings
from sp_bench.speed.settings import SpeedSettings
from sp_plugin.objective.pairs import ALL, num_all_pairs

PLAIN = "host alone"


@dataclass(frozen=True)
class Case:
    """A host that is trained.

    Attributes:
        method: of `sp_bench.methods`.
        backbone: see `sp_bench.backbones`.
        side: of the full views, in pixels.
        batch_size: images in a step.
    """

    method: str
    backbone: str
    side: int
    batch_size: int

    @property
    def name(self) -> str:
        """What it is called in a table."""
        backbone = _SHORT.get(self.backbone, self.backbone)
        return f"{self.method}, {backbone}, {self.side} px, batch {self.batch_size}"

    def settings(self, precision: str) -> Settings:
        """As a comparison would be given them."""
        return Settings(
            method=self.method,
            backbone=self.backbone,
            side=self.side,
            batch_size=self.batch_size,
            precision=precision,
        )


@dataclass(frozen=True)
class Arm:
    """What is added to a host.

    Attributes:
        name: in a table.
        sp: settings of SP; None without SP.
        peer: a name of `sp_bench.speed.peer_callback.PEERS`, or empty.
    """

    name: str
    sp: dict[str, Any] | None = None
    peer: str = ""


_VIT = "vit_small_patch16_224"
_SHORT = {_VIT: "vit_small/16"}

ALONE = Arm(PLAIN)
SP = Arm("SP", {"num_crops": 2})  # the least that it can ask about; more crops have a table
HOST = Arm("SP, source=host_views", {"source": "host_views"})
_REUSED = ("simclr", "dino")  # two views, and local crops
PEER_ARMS = (Arm("AugSelf", peer="augself"), Arm("Drloc", peer="drloc"))


@dataclass(frozen=True)
class _Sizes:
    """Side and batch of each backbone: a step of a second or less."""

    side: int
    batches: dict[str, int] = field(default_factory=dict)


_SIZES = {
    "cpu": _Sizes(64, {"resnet18": 32, "resnet50": 8, _VIT: 16}),
    "cuda": _Sizes(224, {"resnet18": 256, "resnet50": 128, _VIT: 128}),
}
_QUICK = _Sizes(32, {"tiny_resnet": 4, "tiny_vit": 4})


def step_cases(settings: SpeedSettings) -> list[Case]:
    """The hosts whose step is timed with SP and without.

    >>> [case.name for case in step_cases(SpeedSettings(quick=True, device="cpu"))]
    ['simclr, tiny_resnet, 32 px, batch 4', 'mae, tiny_vit, 32 px, batch 4']
    """
    sizes = _sizes(settings)
    hosts = {"simclr": "", "byol": "", "dino": "", "mae": "vit"}  # with what in a backbone's name
    if settings.quick:
        hosts = {"simclr": "resnet", "mae": "vit"}
    return [
        Case(method, backbone, sizes.side, batch)
        for backbone, batch in sizes.batches.items()
        for method, kind in hosts.items()
        if kind in backbone
    ]


def sp_arms(case: Case) -> tuple[Arm, ...]:
    """The ways in which SP is added to this host: to some also on the views that it encodes itself.

    >>> [arm.name for arm in sp_arms(Case("dino", "tiny_vit", 32, 4))]
    ['SP', 'SP, source=host_views']
    """
    return (SP, HOST) if case.method in _REUSED else (SP,)


def peer_cases(settings: SpeedSettings) -> list[Case]:
    """The hosts beside which the peers are timed."""
    sizes = _sizes(settings)
    kept = [name for name in sizes.batches if name != "resnet50"]
    return [Case("simclr", name, sizes.side, sizes.batches[name]) for name in kept]


def k_case(settings: SpeedSettings) -> Case:
    """The host whose step is timed with more and more crops; half a batch, for they are many."""
    host = peer_cases(settings)[0]
    return dataclasses.replace(host, batch_size=max(4, host.batch_size // 2))


def _sizes(settings: SpeedSettings) -> _Sizes:
    return _QUICK if settings.quick else _SIZES[settings.device]


def k_arms(settings: SpeedSettings) -> list[Arm]:
    """SP with more and more crops, with all their pairs and with one."""
    return [
        Arm(
            f"{crops} crops, {f'all {num_all_pairs(crops)} pairs' if pairs == ALL else '1 pair'}",
            sp,
        )
        for crops in ((2, 3) if settings.quick else range(2, 9))
        for pairs in ((ALL, 1) if crops > 2 else (ALL,))
        for sp in [{"num_crops": crops, "num_pairs": pairs}]
    ]
