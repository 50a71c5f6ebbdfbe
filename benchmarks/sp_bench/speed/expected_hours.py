"""What the suites for GPUs cost, on paper: counted operations at a stated throughput.

``python -m sp_bench.speed.expected_hours`` prints the table of docs/suites.md. Nothing is measured.
"""

from __future__ import annotations

import functools
from itertools import groupby
from typing import Any, NamedTuple

import torch
from timm.layers import PatchDropout
from timm.models.vision_transformer import Block
from torch import nn

from sp_bench.backbones import make_backbone
from sp_bench.flops import count_flops
from sp_bench.report.table import LEFT, Column, Table
from sp_plugin import SPConfig
from sp_plugin.sizes import shorter_side

_A100 = 312e12  # FLOP/s in bfloat16, NVIDIA's data sheet
CLUSTER, ONE_GPU = 8 * 0.2 * _A100, 6e12  # FLOP/s that a run is assumed to sustain
SEEDS = 3
_DEFAULTS = SPConfig().resolve(224)
_IMAGENET, _IMAGENET_100, _STL10 = 1_281_167, 126_689, 100_000
_MULTI_CROP = ((2, 224), (6, 96))


class Recipe(NamedTuple):
    """One training of a suite, as its framework's recipe has it.

    Attributes:
        suite: name of the suite.
        method: name in the suite.
        network: name in timm.
        images, epochs: images of an epoch, and epochs.
        views: number and side of the views that the student encodes.
        teacher: number of full views that a teacher encodes, without gradients.
        crop_size: side of SP's crops.
        is_masked: whether the student sees a quarter of the patches, and MAE's decoder all.
        throughput: FLOP/s.
        arms: number of arms: without SP, and at the cost of SP.
    """

    suite: str
    method: str
    network: str
    images: int
    epochs: int
    views: tuple[tuple[int, int], ...] = ((2, 224),)
    teacher: int = 0
    crop_size: int = shorter_side(_DEFAULTS.crop_size)
    is_masked: bool = False
    throughput: float = CLUSTER
    arms: int = 2

    @property
    def host_flops(self) -> float:
        """Operations of an image without SP; projectors and losses, which are few, left out."""
        flops = sum(n * train_flops(self.network, s, self.is_masked) for n, s in self.views)
        return flops + self.teacher * train_flops(self.network, self.views[0][1], gradient=False)

    def cost(self, fraction: float) -> float:
        """Operations with SP on a fraction of the images, relative to those without."""
        crops = _DEFAULTS.num_crops * train_flops(self.network, self.crop_size)
        return 1 + fraction * crops / self.host_flops

    @property
    def hours(self) -> float:
        """Hours of a training without SP."""
        return self.images * self.epochs * self.host_flops / self.throughput / 3600


_R18, _R50, _VIT_S, _VIT_B = "resnet18", "resnet50", "vit_small_patch16_224", "vit_base_patch16_224"
RECIPES = (
    Recipe("one_gpu", "simclr", _R18, _STL10, 50, ((2, 96),), 0, 48, False, ONE_GPU, arms=3),
    Recipe("imagenet100", "simclr", _R18, _IMAGENET_100, 400),
    Recipe("imagenet100", "mocov3", _R18, _IMAGENET_100, 400, teacher=2),
    Recipe("imagenet100", "byol", _R18, _IMAGENET_100, 400, teacher=2),
    Recipe("imagenet100", "dino", _R18, _IMAGENET_100, 400, teacher=2),
    Recipe("imagenet100", "vicreg", _R18, _IMAGENET_100, 400),
    # solo-learn's ViT of MAE takes one size.
    Recipe("imagenet100", "mae", _VIT_B, _IMAGENET_100, 400, ((1, 224),), 0, 224, True),
    Recipe("imagenet", "simclr", _R50, _IMAGENET, 200),
    Recipe("imagenet", "mocov2", _R50, _IMAGENET, 200, ((1, 224),), teacher=1),
    Recipe("imagenet", "byol", _R50, _IMAGENET, 200, teacher=2),
    Recipe("imagenet", "swav", _R50, _IMAGENET, 200, _MULTI_CROP),
    Recipe("imagenet", "mocov3_vit-small", _VIT_S, _IMAGENET, 300, teacher=2),
    Recipe("imagenet", "mae", _VIT_B, _IMAGENET, 300, ((1, 224),), is_masked=True),
)


@functools.cache
def train_flops(network: str, side: int, is_masked: bool = False, gradient: bool = True) -> float:
    """Operations of one image's forward pass, and backward pass with ``gradient``."""
    with torch.device("meta"):
        net: Any = make_backbone(f"timm:{network}", side)
        image = torch.zeros(1, 3, side, side)
        if is_masked:
            net.patch_drop = PatchDropout(0.75, num_prefix_tokens=1)
            decoder = nn.Sequential(*[Block(512, 16, qkv_bias=True) for _ in range(8)])
            tokens = torch.zeros(1, 1 + (side // 16) ** 2, 512)

    def run() -> None:
        outputs = [net(image)] + ([decoder(tokens)] if is_masked else [])
        if gradient:
            torch.stack([output.sum() for output in outputs]).sum().backward()

    with torch.set_grad_enabled(gradient):
        return count_flops(run)


def table() -> Table:
    """One row per recipe, and one for all runs of a suite."""
    names = ["epochs", "GFLOPs an image", "SP on 1/8 of the images", "SP on all"]
    columns = [*names, "images/s", "hours", "hours with SP"]
    lines: list[list[Any]] = []
    for suite, recipes in groupby(RECIPES, lambda recipe: recipe.suite):
        total, runs = 0.0, 0
        for recipe in recipes:
            with_sp = recipe.hours * recipe.cost(_DEFAULTS.sample_fraction)
            total += SEEDS * (recipe.hours + (recipe.arms - 1) * with_sp)
            runs += SEEDS * recipe.arms
            speed = f"{recipe.throughput / recipe.host_flops:,.0f}"
            costs = [f"{recipe.cost(fraction):.2f}" for fraction in (_DEFAULTS.sample_fraction, 1)]
            gigaflops, hours = f"{recipe.host_flops / 1e9:.1f}", f"{recipe.hours:.1f}"
            what = f"{recipe.method}, {recipe.network.removesuffix('_patch16_224')}"
            row = [suite, what, str(recipe.epochs), gigaflops, *costs, speed, hours]
            lines.append([*row, f"{with_sp:.1f}"])
        lines.append([suite, f"all {runs} runs", *[""] * 5, f"{total:.0f}", ""])
    return Table([Column("suite", LEFT), Column("training", LEFT), *map(Column, columns)], lines)


if __name__ == "__main__":
    print(table().to_markdown())
