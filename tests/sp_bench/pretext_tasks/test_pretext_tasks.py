"""Peers instead of SP: their targets, what they learn, and what they leave unchanged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from sp_bench.backbones import make_backbone
from sp_bench.config import Settings
from sp_bench.data import load_data
from sp_bench.errors import UsageError
from sp_bench.pretext_tasks import PRETEXTS, MaskedCrops
from sp_bench.pretext_tasks.augself import AugSelfCrops, differences
from sp_bench.pretext_tasks.relative_location import (
    DIRECTIONS,
    GridSampler,
    RelativeLocation,
    direction,
)
from sp_bench.pretrain import pretrain
from torch import nn

from sp_plugin import SPConfig
from sp_plugin.crops.boxes import cxcywh_to_xyxy, paired_iou

PEERS = [name for name in PRETEXTS if name != "sp"]
SETTINGS = Settings(limit=24, epochs=2, side=32, batch_size=8)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_patches_form_grid_inside_frame() -> None:
    boxes = GridSampler()(5000, generator())
    edges = cxcywh_to_xyxy(boxes)
    assert edges.min() >= 0 and edges.max() <= 1
    assert paired_iou(*boxes).max() == 0
    counts = direction(boxes).bincount(minlength=8)
    assert counts.min() > 500  # of 625 each, were it even
    away = (boxes[1] - boxes[0])[:, :2]
    for number, step in enumerate(DIRECTIONS):
        mean = away[direction(boxes) == number].mean(dim=0)
        assert (mean - torch.tensor(step) * 0.362).abs().max() < 0.01


def first_and_last_loss(peer: nn.Module, pair_loss: Any) -> tuple[float, float]:
    optimizer = torch.optim.Adam(peer.parameters(), 1e-2)
    losses = []
    for step in range(60):
        out = pair_loss(step)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(float(out.metrics["loss"]))
    return losses[0], losses[-1]


def test_relative_location_learns_direction() -> None:
    peer = RelativeLocation(4, SPConfig(weight=1, warmup_fraction=0))

    def pair_loss(step: int) -> Any:
        boxes = peer.sampler(64, torch.Generator().manual_seed(step))
        return peer.pair_loss(boxes, boxes, step=step)

    first, last = first_and_last_loss(peer, pair_loss)
    assert first == pytest.approx(torch.tensor(8.0).log().item(), abs=0.3)
    assert last < 0.3


def test_augself_learns_differences() -> None:
    peer = AugSelfCrops(6, SPConfig(weight=1, warmup_fraction=0, source="host_views"))

    def pair_loss(step: int) -> Any:
        drawn = torch.Generator().manual_seed(step)
        boxes = torch.rand(2, 64, 4, generator=drawn)
        flips = torch.where(torch.rand(2, 64, 2, generator=drawn) < 0.5, -1.0, 1.0)
        return peer.pair_loss(torch.cat([boxes, flips], dim=-1), boxes, flips, step=step)

    first, last = first_and_last_loss(peer, pair_loss)
    assert last < 0.5 * first


def test_unknown_view_adds_nothing_to_loss() -> None:
    boxes = torch.rand(2, 3, 4)
    boxes[1, 0] = torch.nan
    crop, _, known = differences(boxes, torch.ones(2, 3, 2))
    assert known.tolist() == [0, 1, 1]
    assert crop.isfinite().all()
    peer = AugSelfCrops(5, SPConfig(warmup_fraction=0, source="host_views"))
    features = torch.randn(2, 3, 5)
    whole = peer.pair_loss(features, boxes, torch.ones(2, 3, 2), step=0)
    rest = peer.pair_loss(features[:, 1:], boxes[:, 1:], torch.ones(2, 2, 2), step=0)
    assert whole.loss.item() == pytest.approx(rest.loss.item(), rel=1e-6)


@pytest.mark.parametrize("name", PEERS)
def test_nonfinite_features_are_skipped(name: str) -> None:
    peer = PRETEXTS[name](5, SPConfig(warmup_fraction=0, source="host_views"))
    boxes = GridSampler()(3, generator())
    features = torch.full((2, 3, 5), torch.inf, requires_grad=True)
    out = peer.pair_loss(features, boxes, torch.ones(2, 3, 2), step=0)
    assert out.loss.item() == 0
    assert out.metrics["skipped_fraction"].item() == 1
    out.loss.backward()
    grads = [part.grad for part in (features, *peer.parameters()) if part.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


def final_state(name: str, arm: str, weight: float, folder: Path) -> dict[str, torch.Tensor]:
    sp = {"weight": weight, "warmup_fraction": 0.0}
    settings = dataclasses.replace(SETTINGS, pretext=name, sp=sp)
    if name == "masked_crops":
        settings = dataclasses.replace(settings, method="mae", backbone="tiny_vit")
    images = load_data("demo", limit=24).train
    made = pretrain(settings, arm, 0, images, folder, lambda *_: None)
    return {key: value.clone() for key, value in made.method.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_only_weight_0_equals_baseline(name: str, tmp_path: Path) -> None:
    arms = {"baseline": ("baseline", 1.0), "zero": (name, 0.0), "one": (name, 1.0)}
    end = {}
    for key, (arm, weight) in arms.items():
        (tmp_path / key).mkdir()
        end[key] = final_state(name, arm, weight, tmp_path / key)
    assert end["zero"].keys() == end["baseline"].keys()
    assert all(torch.equal(end["zero"][key], end["baseline"][key]) for key in end["zero"])
    assert any(not torch.equal(end["one"][key], end["baseline"][key]) for key in end["one"])


def test_shuffled_targets_teach_nothing() -> None:
    """Features that hold each crop's box predict SP's targets, and not those of other images."""
    learnt = {}
    for name in ("sp", "shuffled_targets"):
        peer: Any = PRETEXTS[name](4, SPConfig(weight=1, warmup_fraction=0, hidden_dim=64))

        def pair_loss(step: int, peer: Any = peer) -> Any:
            boxes = peer.sampler(64, torch.Generator().manual_seed(step))
            return peer.pair_loss(boxes, boxes, step=step)

        first, last = first_and_last_loss(peer, pair_loss)
        learnt[name] = last / first
    assert learnt["sp"] < 0.75
    assert learnt["shuffled_targets"] > 0.9


def test_masked_crops_read_half_of_patches() -> None:
    vit: Any = make_backbone("tiny_vit", 64)
    views = torch.rand(3, 3, 64, 64)
    peer = MaskedCrops.from_backbone(vit, views, SPConfig())
    crops = peer.sample_crops(views, generator())
    token_counts: list[int] = []
    vit.blocks[0].register_forward_hook(lambda _, args, out: token_counts.append(args[0].shape[1]))
    with torch.no_grad():
        one, same, other = (peer.encode_crops(vit, crops, seed).features for seed in (1, 1, 2))
        vit(views)
    patches = (peer.config.crop_size // 8) ** 2
    assert token_counts == 3 * [1 + patches // 2] + [1 + 64]
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_masked_crops_take_a_vit() -> None:
    views = torch.rand(2, 3, 32, 32)
    resnet = make_backbone("tiny_resnet", 32)
    peer = MaskedCrops.from_backbone(resnet, views, SPConfig())
    with pytest.raises(UsageError, match="masked_crops takes a ViT of timm"):
        peer.encode_crops(resnet, peer.sample_crops(views, generator()), 0)
