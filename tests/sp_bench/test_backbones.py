"""Changes to a backbone and its method before training."""

from __future__ import annotations

import pytest
import torch
from sp_bench.backbones import make_backbone, set_fused_attention
from sp_bench.config import Settings
from sp_bench.method_evaluation import freeze_method
from sp_bench.pretrain import new_method
from timm.layers import Attention
from torch import nn


def fused(module: nn.Module) -> list[bool]:
    return [part.fused_attn for part in module.modules() if isinstance(part, Attention)]


@pytest.mark.parametrize("gpu", [False, True])
def test_attention_trains_fused_on_gpu_only(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    mae = new_method(Settings(method="mae", backbone="tiny_vit"), seed=0)
    assert fused(mae) == [gpu] * (6 + 2)  # its decoder too


def test_unfused_attention_gives_same_output() -> None:
    backbone, images = make_backbone("tiny_vit", 32), torch.rand(4, 3, 32, 32)
    before = backbone(images)
    set_fused_attention(backbone, fused=False)
    assert fused(backbone) == [False] * 6
    torch.testing.assert_close(backbone(images), before)


def test_attention_is_fused_in_evaluation() -> None:
    settings = Settings(method="mae", backbone="tiny_vit")
    mae = new_method(settings, seed=0)
    freeze_method(settings, mae)
    assert fused(mae.backbone) == [True] * 6
