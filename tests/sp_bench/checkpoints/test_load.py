"""Checkpoints in the format of each framework, and files with more than weights."""

from __future__ import annotations

import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from sp_bench.backbones import make_backbone
from sp_bench.checkpoints import load_checkpoint, read_weights
from sp_bench.checkpoints.read import TRUST_OPTION
from sp_bench.errors import UsageError
from torch import Tensor, nn

State = dict[str, Tensor]


def resnet(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_backbone("resnet18", 64)


def vit(seed: int, side: int = 32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_backbone("tiny_vit", side)


def add_prefix(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def filled_with_7(state: State) -> State:
    return {name: torch.full_like(value, 7) for name, value in state.items()}


def openmmlab_vit(state: State, norms: str) -> State:
    """timm's names as mmselfsup (ln) or an older mmcls (norm) has them."""
    turned = {}
    for name, value in state.items():
        name = name.replace("patch_embed.proj.", "patch_embed.projection.")
        name = re.sub(r"^norm\.", f"{norms}1.", name)
        name = re.sub(r"^blocks\.(\d+)\.norm", rf"layers.\1.{norms}", name)
        name = name.replace("mlp.fc1.", "ffn.layers.0.0.").replace("mlp.fc2.", "ffn.layers.1.")
        turned[name.replace("blocks.", "layers.")] = value
    return turned


def as_sequential(net: nn.Module) -> State:
    return nn.Sequential(*list(net.children())[:-1]).state_dict()


PROJECTOR = {"projector.0.weight": torch.ones(3, 3)}
RESNET, VIT = resnet(1).state_dict(), vit(1).state_dict()
FORMS = {
    "plain": (RESNET, ""),
    "torchvision": ({**RESNET, "fc.weight": torch.ones(9, 512), "fc.bias": torch.ones(9)}, ""),
    "timm": ({"state_dict": VIT}, ""),
    "timm's script": (
        {"epoch": 3, "arch": "vit", "state_dict": add_prefix("module.", VIT)},
        "module.",
    ),
    "Lightning": (
        {"state_dict": add_prefix("backbone.", RESNET) | PROJECTOR, "epoch": 3},
        "backbone.",
    ),
    "lightly, dino": (
        {
            "state_dict": add_prefix("teacher_backbone.", filled_with_7(RESNET))
            | add_prefix("student_backbone.", RESNET)
        },
        "student_backbone.",
    ),
    "lightly, Sequential": (
        {"state_dict": add_prefix("backbone.", as_sequential(resnet(1)))},
        "backbone.",
    ),
    "lightly, masked": ({"state_dict": add_prefix("backbone.vit.", VIT)}, "backbone.vit."),
    "solo-learn": (
        {
            "state_dict": add_prefix("momentum_backbone.", filled_with_7(RESNET))
            | add_prefix("backbone.", RESNET)
            | PROJECTOR
        },
        "backbone.",
    ),
    "a copy whose name comes first": (
        {
            "state_dict": add_prefix("ema.backbone.", filled_with_7(RESNET))
            | add_prefix("online.backbone.", RESNET)
        },
        "online.backbone.",
    ),
    "MMSelfSup, whole": (
        {
            "meta": {"epoch": 1},
            "state_dict": add_prefix("backbone.", RESNET) | add_prefix("sp.head.", PROJECTOR),
        },
        "backbone.",
    ),
    "MMSelfSup, extracted": ({"state_dict": RESNET, "author": "OpenMMLab"}, ""),
    "MMSelfSup, ViT": (
        {"state_dict": add_prefix("backbone.", openmmlab_vit(VIT, "ln"))},
        "backbone.",
    ),
    "mmcls, ViT": (
        {"state_dict": add_prefix("backbone.", openmmlab_vit(VIT, "norm"))},
        "backbone.",
    ),
    "DINO's own": ({"student": add_prefix("module.backbone.", VIT)}, "module.backbone."),
}
VITS = ("timm", "timm's script", "lightly, masked", "MMSelfSup, ViT", "mmcls, ViT", "DINO's own")


@pytest.mark.parametrize("form", FORMS)
def test_each_format_loads_the_backbone(form, tmp_path):
    saved, prefix = FORMS[form]
    torch.save(saved, tmp_path / "a.ckpt")
    make = vit if form in VITS else resnet
    backbone = make(2)
    report = load_checkpoint(backbone, tmp_path / "a.ckpt")
    assert report.prefix == prefix
    assert report.share == 1 and not report.missing and not report.mismatched
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(backbone.eval()(x), make(1).eval()(x))


def test_prefix_selects_momentum_copy(tmp_path):
    state = add_prefix("backbone.", RESNET) | add_prefix(
        "momentum_backbone.", resnet(3).state_dict()
    )
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    backbone = resnet(2)
    assert load_checkpoint(backbone, tmp_path / "a.ckpt", prefix="momentum_backbone").share == 1
    assert torch.equal(backbone.conv1.weight, resnet(3).conv1.weight)
    with pytest.raises(UsageError, match=r"nothing below 'momentum\.'; did you mean 'momentum_bac"):
        load_checkpoint(backbone, tmp_path / "a.ckpt", prefix="momentum.")


def test_unmatched_weights_are_reported(tmp_path):
    state = {name: value for name, value in RESNET.items() if not name.startswith("layer4.1")}
    state["conv1.weight"] = torch.ones(64, 3, 3, 3)
    torch.save(state | {"odd": torch.ones(1)}, tmp_path / "a.pt")
    backbone = resnet(2)
    report = load_checkpoint(backbone, tmp_path / "a.pt")
    assert (
        len(report.missing) == 10
        and report.mismatched == ("conv1.weight",)
        and report.unexpected == ("odd",)
    )
    line = report.summary()
    assert line.startswith("89 of 100 weights matched without a prefix; 10 missing (layer4.1.bn1.")
    assert "1 of another shape (conv1.weight)" in line and "1 not the backbone's (odd)" in line
    assert torch.equal(backbone.conv1.weight, resnet(2).conv1.weight)


def test_position_embedding_is_resampled(tmp_path):
    torch.save(VIT, tmp_path / "a.pt")
    backbone = vit(2, side=64)
    report = load_checkpoint(backbone, tmp_path / "a.pt")
    assert report.share == 1 and report.resampled == ("pos_embed",)
    expected = timm.layers.resample_abs_pos_embed(VIT["pos_embed"], [8, 8], num_prefix_tokens=1)
    torch.testing.assert_close(backbone.pos_embed.data, expected)


def test_wrong_architecture_is_refused(tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "a.pt")
    backbone = vit(2)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(UsageError, match=r"0 of \d+ weights matched.*another architecture") as e:
        load_checkpoint(backbone, tmp_path / "a.pt")
    assert "\n" not in str(e.value)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(("kept", "good"), [(50, True), (49, False)])
def test_at_least_half_must_match(kept, good, tmp_path):
    named = [name for name in RESNET if "num_batches" not in name]
    assert len(named) == 100
    torch.save({name: RESNET[name] for name in named[:kept]}, tmp_path / "a.pt")
    if good:
        assert load_checkpoint(resnet(2), tmp_path / "a.pt").share == 0.5
        return
    with pytest.raises(UsageError, match="49 of 100 weights matched"):
        load_checkpoint(resnet(2), tmp_path / "a.pt")


class ForeignObject:
    """As a HistoryBuffer of mmengine: an object of a class that is not torch's."""

    ran = False

    def __setstate__(self, state) -> None:
        ForeignObject.ran = True


def test_unsafe_pickle_needs_trust_option(tmp_path):
    sly = ForeignObject()
    sly.x = 1
    torch.save({"state_dict": RESNET, "message_hub": sly}, tmp_path / "a.pth")
    ForeignObject.ran = False
    with pytest.raises(UsageError, match=f"holds more than weights.*give {TRUST_OPTION}$") as error:
        read_weights(tmp_path / "a.pth")
    assert not ForeignObject.ran and "\n" not in str(error.value)
    assert read_weights(tmp_path / "a.pth", trust=True).keys() == RESNET.keys()
    assert ForeignObject.ran


def test_safetensors_are_read(tmp_path):
    save_file(
        {name: value.contiguous() for name, value in RESNET.items()}, tmp_path / "a.safetensors"
    )
    assert read_weights(tmp_path / "a.safetensors").keys() == RESNET.keys()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "is not there"),
        (lambda p: p.mkdir(), "is a folder; takes a file"),
        (lambda p: p.write_bytes(b"PK no zip"), "cannot be read"),
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: torch.save({"epoch": 3}, p), "holds no weights"),
        (lambda p: torch.save([1, 2], p), "holds no weights"),
    ],
)
def test_invalid_checkpoint_error_names_file(make, says, tmp_path):
    make(tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match=f"^checkpoint: .*a.ckpt {says}") as error:
        read_weights(tmp_path / "a.ckpt")
    assert "\n" not in str(error.value)
