"""Published models: their weights from local caches, their images, and what is said offline."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from sp_bench.backbones import make_backbone, model_input
from sp_bench.checkpoints import load_checkpoint
from sp_bench.config import Settings
from sp_bench.errors import UsageError
from torch import Tensor, nn

TIMM, TORCHVISION = "timm:test_vit.r160_in1k", "torchvision:mobilenet_v3_small"


def cache_timm(hub: Path) -> dict[str, Tensor]:
    """Random weights where the hub's client would have left those of ``TIMM``."""
    weights = timm.create_model("test_vit").state_dict()
    repository = hub / "models--timm--test_vit.r160_in1k"
    for folder in ("refs", "snapshots/0"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text("0")
    save_file(weights, repository / "snapshots" / "0" / "model.safetensors")
    return weights


def cache_torchvision(home: Path) -> dict[str, Tensor]:
    weights = torchvision.models.mobilenet_v3_small().state_dict()
    url = torchvision.models.MobileNet_V3_Small_Weights.DEFAULT.url
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(weights, home / "hub" / "checkpoints" / Path(url).name)
    return weights


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and hubs that cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.parametrize(("name", "cache"), [(TIMM, cache_timm), (TORCHVISION, cache_torchvision)])
def test_published_weights_are_loaded(name, cache, offline):
    weights = cache(offline)
    loaded = make_backbone(name, model_input(name).side, pretrained=True).state_dict()
    random = make_backbone(name, model_input(name).side).state_dict()
    assert loaded and all(torch.equal(value, weights[key]) for key, value in loaded.items())
    assert loaded.keys() == random.keys()
    assert any(not torch.equal(value, random[key]) for key, value in loaded.items())


def test_published_model_is_torchvisions(monkeypatch):
    """GoogLeNet normalises its images once more, with published weights alone."""
    build, weights = torchvision.models.googlenet, torchvision.models.GoogLeNet_Weights.DEFAULT
    state = build(init_weights=False).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: state)
    reference = build(weights=weights).eval()
    reference.fc = nn.Identity()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        found = make_backbone("torchvision:googlenet", 32, pretrained=True).eval()(images)
        assert torch.equal(found, reference(images))
    assert not make_backbone("torchvision:googlenet", 32).transform_input


def test_images_are_those_of_the_config():
    side, stats = model_input(TIMM)
    assert side == 160 and stats.mean == (0.5, 0.5, 0.5)
    side, stats = model_input("torchvision:vit_b_16")
    assert side == 224 and stats.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [(TIMM, "--checkpoint FILE"), (TORCHVISION, "--checkpoint FILE"), ("hf:a/b", "hf:FOLDER")],
)
def test_offline_is_one_line(name, remedy, offline):
    with pytest.raises(UsageError) as error:
        make_backbone(name, 64, pretrained=True)
    line = str(error.value)
    assert line.startswith(f"backbone: {name!r} cannot be read: ") and "\n" not in line
    assert line.endswith(f"give the model from disk, {remedy}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tim:resnet18", "no source 'tim'; did you mean 'timm'?"),
        ("timm:resnt18", "no 'resnt18'; did you mean 'resnet18'?"),
        ("timm:test_vit.r160_in2k", "no 'test_vit.r160_in2k'; did you mean 'test_vit.r160_in1k'?"),
        ("torchvision:vit_b_61", "no 'vit_b_61'; did you mean 'vit_b_16'?"),
        ("torchvision:squeezenet1_1", "torchvision:squeezenet1_1 ends in no linear classifier"),
    ],
)
def test_wrong_names_are_refused(name, says):
    with pytest.raises(UsageError) as error:
        make_backbone(name, 64)
    assert str(error.value).startswith(f"backbone: {says}")


def test_pretraining_refuses_eval_models():
    with pytest.raises(UsageError, match=r"^backbone: got 'hf:a/b', which eval takes; pre-train"):
        Settings(backbone="hf:a/b")


def test_small_backbones_have_no_weights():
    with pytest.raises(UsageError, match=r"^pretrained: there are no weights for 'tiny_vit'"):
        make_backbone("tiny_vit", 64, pretrained=True)


def test_torchvision_vit_gives_patches(tmp_path, monkeypatch):
    small = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 16)
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: small)
    weights = {key: value.clone() for key, value in small.state_dict().items()}
    small.eval()
    images = torch.rand(2, 3, 32, 32)
    small.heads = nn.Identity()
    class_token = small(images)
    backbone = make_backbone("torchvision:vit_b_16", 32)
    tokens = backbone(images)
    assert tokens.shape == (2, 17, 16) and torch.equal(tokens[:, 0], class_token)
    torch.save(weights, tmp_path / "a.pth")
    assert load_checkpoint(backbone, tmp_path / "a.pth").share == 1
