from __future__ import annotations

import gc
import random

import numpy as np
import pytest
import torch
from PIL import Image
from sp_bench import frozen_backbone
from sp_bench.data.dataset import ImageDataset
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from torch import Tensor, nn
from torchvision import transforms

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class SmallDataset(ImageDataset):
    """Six images of noise, 50 x 40, which count how often they are read."""

    classes = ("one", "other")

    def __init__(self) -> None:
        self.labels = torch.tensor([0, 1] * 3)
        self.pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), np.uint8)
        self.read = 0

    def image(self, index: int) -> Image.Image:
        self.read += 1
        return Image.fromarray(self.pixels[index])


class StatefulBackbone(nn.Module):
    """Draws random numbers, counts its calls and normalises: all state that a backbone can have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.rand(()) + random.random() + float(np.random.rand())  # noqa: NPY002
        return self.norm(self.conv(images)) * noise


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))


def test_images_resize_like_torchvision():
    dataset = SmallDataset()
    decoded = FrozenBackbone(net(), side=32, crop_size=16).images(dataset)
    crop = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32)])
    expected = np.stack([np.asarray(crop(Image.fromarray(p))) for p in dataset.pixels])
    assert decoded.dtype == torch.uint8
    np.testing.assert_array_equal(decoded.permute(0, 2, 3, 1).numpy(), expected)


def test_workers_decode_the_same_images():
    alone = FrozenBackbone(net(), side=32, crop_size=16).images(SmallDataset())
    assert torch.equal(
        FrozenBackbone(net(), side=32, crop_size=16, workers=1).images(SmallDataset()), alone
    )


def test_images_are_decoded_once_per_size():
    dataset = SmallDataset()
    for _ in range(2):
        frozen = FrozenBackbone(net(), side=32, crop_size=16)
        frozen.features(dataset)
        frozen.images(dataset)
    assert dataset.read == 6
    assert FrozenBackbone(net(), side=24, crop_size=16).images(dataset).shape == (6, 3, 24, 24)
    assert dataset.read == 12


def test_features_are_computed_once():
    dataset, backbone = SmallDataset(), net()
    frozen = FrozenBackbone(backbone, side=32, crop_size=16)
    once = frozen.features(dataset)
    with torch.no_grad():
        backbone[0].weight.zero_()
    assert torch.equal(frozen.features(dataset), once)
    assert not torch.equal(FrozenBackbone(backbone, side=32, crop_size=16).features(dataset), once)


def test_cache_is_freed_with_the_dataset():
    gc.collect()
    before = len(frozen_backbone._decoded_images)
    dataset = SmallDataset()
    frozen = FrozenBackbone(net(), side=32, crop_size=16)
    frozen.features(dataset)
    assert len(frozen_backbone._decoded_images) == before + 1
    del dataset
    gc.collect()
    assert len(frozen_backbone._decoded_images) == before
    assert len(frozen._cache) == 0


def test_bf16_computes_under_autocast():
    dataset, backbone = SmallDataset(), net().eval()
    exact = FrozenBackbone(backbone, side=32, crop_size=16)
    found = FrozenBackbone(backbone, side=32, crop_size=16, bf16=True).features(dataset)
    images = (exact.images(dataset) / 255 - MEAN) / STD
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = backbone(images).float().mean((2, 3))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert not torch.equal(found, exact.features(dataset))
    assert exact.features(dataset).sub(found).abs().max() < 0.05


def test_features_use_eval_mode():
    dataset, backbone = SmallDataset(), net()
    backbone[1].running_mean += 1
    frozen = FrozenBackbone(backbone.train(), side=32, crop_size=16, batch_size=4)
    found = frozen.features(dataset)
    images = (frozen.images(dataset) / 255 - MEAN) / STD
    with torch.no_grad():
        expected = backbone.eval()(images).mean(dim=(2, 3))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


def test_uint8_and_float_images_are_equal():
    frozen = FrozenBackbone(net(), side=32, crop_size=16)
    images = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(frozen.extract(images), frozen.extract(images / 255))


def test_half_backbone_gives_float32():
    frozen = FrozenBackbone(net().bfloat16(), side=32, crop_size=16)
    assert frozen.extract(torch.rand(2, 3, 16, 16)).dtype == torch.float32


def test_layer_selects_the_output():
    backbone = net()
    backbone[1].running_mean += 1
    first = FrozenBackbone(backbone, side=32, crop_size=16, layer="0")
    images = torch.rand(2, 3, 16, 16)
    expected = backbone[0]((images - MEAN) / STD).mean(dim=(2, 3))
    torch.testing.assert_close(first.extract(images), expected.detach())


def test_pool_selects_the_pooling():
    class Tokens(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            patches = images.flatten(2).transpose(1, 2)
            return torch.cat([torch.full_like(patches[:, :1], 7), patches], dim=1)

    images = torch.rand(2, 3, 16, 16)
    found = [
        FrozenBackbone(Tokens(), side=16, crop_size=16, pool=p).extract(images)
        for p in ("cls", "mean")
    ]
    assert torch.equal(found[0], torch.full((2, 3), 7.0))
    torch.testing.assert_close(found[1], ((images - MEAN) / STD).mean(dim=(2, 3)))


def test_backbone_and_rng_are_unchanged():
    backbone = nn.Sequential(StatefulBackbone(), nn.Identity().eval(), nn.Dropout())
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    frozen = FrozenBackbone(backbone, side=32, crop_size=16, batch_size=2)
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = frozen.features(SmallDataset()), frozen.features(SmallDataset())
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert (np.random.get_state()[1] == drawn[2]).all()  # noqa: NPY002
    assert all(torch.equal(state[key], value) for key, value in backbone.state_dict().items())
    assert [part.training for part in backbone] == [True, False, True]


def test_fixed_size_backbone_gets_its_size():
    class Fixed(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            assert images.shape[-1] == 48
            return super().forward(images)

    backbone = Fixed(3, 8, 3)
    backbone.img_size = 48
    frozen = FrozenBackbone(backbone, side=64, crop_size=32)
    assert (frozen.side, frozen.crop_size, frozen.feature_dim) == (48, 48, 8)
    assert frozen.features(SmallDataset()).shape == (6, 8)


def test_nonfinite_features_are_refused():
    backbone = net()
    backbone[0].weight.data[0] = float("nan")
    with pytest.raises(UnmeasurableError, match=r"^backbone: some .* did its training diverge\?$"):
        FrozenBackbone(backbone, side=32, crop_size=16).features(SmallDataset())


def test_backbone_stays_on_its_device():
    backbone = net()
    elsewhere = frozen_backbone._to_device(torch.device("meta"), backbone)
    assert next(elsewhere.parameters()).device.type == "meta"
    assert next(backbone.parameters()).device.type == "cpu"
    assert frozen_backbone._to_device(torch.device("cpu"), backbone) is backbone


class MaskedTokens(nn.Conv2d):
    """A random part of the patches, as of an MAE."""

    mask_ratio = 0.75

    def forward(self, images: Tensor) -> Tensor:
        tokens = super().forward(images).flatten(2).transpose(1, 2)
        order = torch.randperm(tokens.shape[1])
        return tokens[:, order[: round(tokens.shape[1] * (1 - self.mask_ratio))]]


def test_shuffled_patches_give_no_map():
    frozen = FrozenBackbone(MaskedTokens(3, 8, 4, 4), side=32, crop_size=16)
    with pytest.raises(UnmeasurableError, match="shuffles its patches to mask them; gives no map"):
        frozen.extract_maps(torch.rand(2, 3, 32, 32))
