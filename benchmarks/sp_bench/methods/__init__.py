"""Self-supervised methods from lightly's building blocks, as LightningModules."""

from sp_bench.methods.base import Method
from sp_bench.methods.dino import DINO
from sp_bench.methods.mae import MAE
from sp_bench.methods.momentum import BYOL, MoCo
from sp_bench.methods.two_views import BarlowTwins, SimCLR, VICReg

METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "dino": DINO,
    "mae": MAE,
    "vicreg": VICReg,
    "barlowtwins": BarlowTwins,
}

__all__ = ["METHODS", "Method"]
