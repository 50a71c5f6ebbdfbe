"""The isolation contract in training loops of four kinds of methods.

With weight 0 a run ends in the baseline's weights and buffers, bit for bit.
"""

from __future__ import annotations

import copy
import functools

import pytest
import timm
import torch
from packaging.version import Version
from torch import Tensor, nn
from torch.nn import functional as F

from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.features.extraction import extract_features

_STEPS, _WIDTH = 5, 48
# timm up to 1.0.22 at least cannot drop blocks of features as small as these.
_DROP_BLOCK_RATE = 0.1 if Version(timm.__version__) >= Version("1.0.25") else 0.0


def _resnet() -> nn.Module:
    return timm.create_model(
        "resnet10t",
        pretrained=False,
        num_classes=0,
        channels=(8, 16, 32, _WIDTH),
        stem_width=8,
        drop_path_rate=0.5,
        drop_block_rate=_DROP_BLOCK_RATE,
    )


def _vit(**settings) -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=0,
        img_size=32,
        patch_size=8,
        embed_dim=_WIDTH,
        depth=2,
        drop_path_rate=0.5,
        proj_drop_rate=0.2,
        dynamic_img_size=True,
        **settings,
    )


def _mlp(out: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Linear(_WIDTH, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, out))


def _augment(images: Tensor) -> Tensor:
    return images * (1 + 0.2 * torch.randn(len(images), 3, 1, 1)) + 0.1 * torch.randn_like(images)


class SimCLR(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.projector = backbone, _mlp()

    def forward(self, view: Tensor, images: Tensor) -> Tensor:
        z = torch.cat(
            [self.projector(extract_features(self.backbone, x)) for x in (view, _augment(images))]
        )
        similar = F.normalize(z) @ F.normalize(z).T / 0.2
        similar = similar.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
        return F.cross_entropy(similar, torch.arange(len(z)).roll(len(view)))

    def update(self) -> None:
        pass


class BYOL(SimCLR):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__(backbone)
        self.predictor = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 16))
        self.teacher = copy.deepcopy(nn.ModuleList([backbone, self.projector]))
        self.teacher.requires_grad_(False)

    def forward(self, view: Tensor, images: Tensor) -> Tensor:
        other = _augment(images)
        loss = torch.zeros(())
        for online, target in ((view, other), (other, view)):
            prediction = self.predictor(self.projector(extract_features(self.backbone, online)))
            with torch.no_grad():
                target_projection = self.teacher[1](extract_features(self.teacher[0], target))
            loss = loss - F.cosine_similarity(prediction, target_projection).mean()
        return loss

    @torch.no_grad()
    def update(self) -> None:
        students = [*self.backbone.parameters(), *self.projector.parameters()]
        for old, new in zip(self.teacher.parameters(), students, strict=True):
            old.lerp_(new, 0.05)


class DINO(BYOL):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__(backbone)
        self.register_buffer("centre", torch.zeros(16))

    def forward(self, view: Tensor, images: Tensor) -> Tensor:
        global_views = [view, _augment(images)]
        local_views = [_augment(images)[..., i : i + 16, i : i + 16] for i in (0, 16)]
        with torch.no_grad():
            targets = [self.teacher[1](extract_features(self.teacher[0], x)) for x in global_views]
        loss = torch.zeros(())
        for target in targets:
            probabilities = ((target - self.centre) / 0.1).softmax(dim=1)
            for x in (*global_views, *local_views):
                logits = self.projector(extract_features(self.backbone, x)) / 0.2
                loss = loss - (probabilities * logits.log_softmax(dim=1)).sum(dim=1).mean()
        self.centre.lerp_(torch.cat(targets).mean(dim=0), 0.1)
        return loss


class _Masked(nn.Module):
    """A ViT that masks a random three quarters of the patches, like Hugging Face's ViTMAE."""

    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        self.vit = vit
        self.mask_ratio = 0.75  # 0 in SP's own calls

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patches = self.vit.patch_embed(x).flatten(1, 2) + self.vit.pos_embed[:, 1:]
        order = torch.rand(patches.shape[:2]).argsort(dim=1)
        count = round(patches.shape[1] * (1 - self.mask_ratio))
        kept = order[:, :count, None].expand(-1, -1, _WIDTH)
        cls = self.vit.cls_token.expand(len(x), -1, -1)
        latent = self.vit.norm(self.vit.blocks(torch.cat([cls, patches.gather(1, kept)], dim=1)))
        mask = torch.ones(patches.shape[:2]).scatter(1, kept[..., 0], 0.0)
        return latent, mask, order


class MAE(SimCLR):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__(_Masked(backbone))
        self.decoder = nn.Linear(_WIDTH, 8 * 8 * 3)

    def forward(self, view: Tensor, images: Tensor) -> Tensor:
        latent, mask, _ = self.backbone(view)
        patches = F.unfold(images, 8, stride=8).transpose(1, 2)
        errors = (self.decoder(latent.mean(dim=1))[:, None] - patches).square().mean(dim=2)
        return (errors * mask).sum() / mask.sum()


# 4 of the 16 patches of an image of 32 px stay unmasked, and all of those of SP's crops.
_RUNS = {
    "SimCLR, ResNet": (SimCLR, _resnet),
    "SimCLR, ViT": (SimCLR, _vit),
    "BYOL, ResNet": (BYOL, _resnet),
    "BYOL, ViT": (BYOL, _vit),
    "DINO, ResNet": (DINO, _resnet),
    "DINO, ViT": (DINO, _vit),
    "MAE, ViT": (MAE, functools.partial(_vit, class_token=True)),
}
each_run = pytest.mark.parametrize("run", _RUNS)


@functools.cache
def _train(run: str, weight: float | None, progress: float | None = None, relative: bool = True):
    """Final weights and buffers, the method's losses, and the final state of the generator."""
    method, backbone = _RUNS[run]
    torch.manual_seed(0)
    host = method(backbone()).train()
    parameters = [parameter for parameter in host.parameters() if parameter.requires_grad]
    sp = None
    if weight is not None:
        config = SPConfig(weight, relative, crop_size=32, hidden_dim=16)
        sp = SpatialPrediction.from_backbone(host.backbone, torch.empty(0, 3, 64, 64), config)
        parameters += list(sp.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.05)
    losses = []
    for step in range(_STEPS):
        images = torch.randn(4, 3, 32, 32)
        view = _augment(images)
        loss = host(view, images)
        losses.append(loss.item())
        if sp is not None:
            now = (step + 1) / _STEPS if progress is None else progress
            loss = loss + sp(host.backbone, view, step=step, progress=now).loss
        optimizer.zero_grad()
        loss.backward()
        # Gradients of zeros change the last bit of a clipped norm: during warm-up only the host's
        # parameters are clipped.
        nn.utils.clip_grad_norm_(host.parameters() if progress == 0 else parameters, 1.0)
        optimizer.step()
        host.update()
    state = {name: value.clone() for name, value in host.state_dict().items()}
    return state, losses, torch.get_rng_state()


@each_run
@pytest.mark.parametrize(("weight", "progress"), [(0.0, None), (1.0, 0.0)], ids=["0", "warm-up"])
def test_weight_0_equals_baseline(run, weight, progress):
    baseline, losses, generator = _train(run, None)
    state, with_sp, after = _train(run, weight, progress)
    assert with_sp == losses
    assert state.keys() == baseline.keys()
    assert all(torch.equal(value, baseline[name]) for name, value in state.items())
    assert torch.equal(after, generator)


@each_run
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "plain"])
def test_weight_1_changes_only_the_gradient(run, relative):
    baseline, losses, generator = _train(run, None)
    state, with_sp, after = _train(run, 1.0, None, relative)
    assert with_sp[0] == losses[0] and with_sp[1:] != losses[1:]
    assert torch.equal(after, generator)
    changed = [name for name, value in state.items() if not torch.equal(value, baseline[name])]
    assert any(name.startswith("backbone.") for name in changed)


@each_run
def test_baseline_trains_and_repeats(run):
    state, losses, _ = _train(run, None)
    repeated_state, repeated_losses, _ = _train.__wrapped__(run, None)
    assert losses == repeated_losses and len(set(losses)) == _STEPS
    assert all(torch.equal(value, repeated_state[name]) for name, value in state.items())
