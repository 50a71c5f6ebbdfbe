"""Models of Hugging Face from a local folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sp_bench.backbones import make_backbone, model_input
from sp_bench.errors import UsageError
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks.dense_features import find_map_layer

transformers: Any = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("hub") / "tiny"
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8,
    )  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(path)
    transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    ).save_pretrained(path)
    return path


def test_folder_gives_weights_and_images(folder):
    side, stats = model_input(f"hf:{folder}")
    assert (side, stats.mean, stats.std) == (32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    backbone = make_backbone(f"hf:{folder}", side, pretrained=True)
    frozen = FrozenBackbone(backbone, side=side, crop_size=side, stats=stats)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    reference = transformers.ViTModel.from_pretrained(folder).eval()
    with torch.no_grad():
        tokens = reference(stats.normalize(images / 255)).last_hidden_state
    torch.testing.assert_close(frozen.extract(images), tokens[:, 1:].mean(1))
    random = FrozenBackbone(
        make_backbone(f"hf:{folder}", side), side=side, crop_size=side, stats=stats
    )
    assert not torch.allclose(random.extract(images), frozen.extract(images))


def test_incomplete_folder_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks 1 weights of ViTModel, such as layernorm\.weight"):
        make_backbone(f"hf:{tmp_path}", 32, pretrained=True)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UsageError, match=r"^backbone: 'hf:.*' cannot be read: .*, hf:FOLDER$"):
        make_backbone(f"hf:{tmp_path}", 32)


def test_wrong_folder_or_bands_are_refused(folder):
    with pytest.raises(UsageError, match=f"no such folder; did you mean '{folder}'"):
        make_backbone(f"hf:{folder}y", 32)
    with pytest.raises(UsageError, match="takes 3 channels, got 4"):
        make_backbone(f"hf:{folder}", 32, channels=4)


def test_processor_may_be_missing(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    side, stats = model_input(f"hf:{tmp_path}")
    assert side == 32 and stats.mean[0] == 0.485


def write_configs(folder: Path, config: dict[str, Any], processor: dict[str, Any] | None) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return f"hf:{folder}"


def test_timm_model_has_the_images_of_timm(tmp_path):
    images = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {
        "model_type": "timm_wrapper", "architecture": "resnet10t", "num_classes": 0,
        "pretrained_cfg": images,
    }  # fmt: skip
    side, stats = model_input(write_configs(tmp_path, config, None))
    assert (side, stats.mean, stats.std) == (96, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize("normalize", [False, None])
def test_images_may_not_be_normalised(normalize, tmp_path):
    processor = {"image_processor_type": "ViTImageProcessor", "do_normalize": normalize}
    _, stats = model_input(write_configs(tmp_path, {"model_type": "vit"}, processor))
    assert (stats.mean, stats.std) == ((0, 0, 0), (1, 1, 1))


def test_bgr_images_are_refused(tmp_path):
    processor = {
        "image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True
    }  # fmt: skip
    name = write_configs(tmp_path, {"model_type": "mobilevit", "image_size": 256}, processor)
    with pytest.raises(UsageError, match=r"takes BGR images, got RGB; takes timm:NAME instead$"):
        model_input(name)


def test_masked_model_sees_whole_images(tmp_path):
    config = transformers.ViTMAEConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8,
    )  # fmt: skip
    transformers.ViTMAEModel(config).save_pretrained(tmp_path)
    backbone = make_backbone(f"hf:{tmp_path}", 32, pretrained=True)
    frozen = FrozenBackbone(backbone, side=32, crop_size=32)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    reference = transformers.ViTMAEModel.from_pretrained(tmp_path, mask_ratio=0.0).eval()
    in_order = torch.arange(16.0).expand(3, -1)
    with torch.no_grad():
        normalized = frozen.stats.normalize(images / 255)
        tokens = reference(normalized, noise=in_order).last_hidden_state[:, 1:]
    maps = tokens.transpose(1, 2).reshape(3, 16, 4, 4)
    torch.testing.assert_close(frozen.extract_maps(images, find_map_layer(frozen, 32)), maps)
    torch.testing.assert_close(frozen.extract(images), tokens.mean(1))
