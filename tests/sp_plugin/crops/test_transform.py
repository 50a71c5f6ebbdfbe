"""Crops of the original image: their pixels and boxes, and the host's views unchanged."""

from __future__ import annotations

import collections
import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate
from torchvision import transforms as v1
from torchvision.transforms import v2

from sp_plugin import ConfigError, Crops, SpatialPrediction, SPConfig, crop_resize
from sp_plugin.batch import split_batch
from sp_plugin.crops.batch_colors import color_crops
from sp_plugin.crops.transform import ImageCrops, SPTransform, find_normalize
from sp_plugin.isolation import make_generator

PLAIN = {"sharpness": "native", "crop_size": 16}


def make_image(width: int = 60, height: int = 60, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def as_float(image: Any) -> torch.Tensor:
    return v2.functional.to_dtype(v2.functional.pil_to_tensor(image), scale=True)


def identity(crop: Any) -> Any:
    return crop


# What stands before the view of 48 px of an image: its crops are 24 px, of the view's channels.
BEFORE_THE_VIEW = {
    "long mask": lambda image: torch.zeros(1, 60, 60, dtype=torch.long),
    "float masks": lambda image: torch.zeros(2, 60, 60),
    "long labels of 3 channels": lambda image: torch.zeros(3, 60, 60, dtype=torch.long),
    "local view": lambda image: image[..., :20, :20],
    "stacked local views": lambda image: torch.stack([image[..., :20, :20]] * 2),
}


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("before", BEFORE_THE_VIEW.values(), ids=BEFORE_THE_VIEW.keys())
def test_largest_view_sets_crops(before: Any, channels: int) -> None:
    views = torch.rand(channels, 48, 48)
    transform = SPTransform(lambda image: {"first": before(views), "view": views})
    assert transform(torch.rand(channels, 60, 60))["sp"]["crops"].shape == (4, channels, 24, 24)


def test_views_of_bytes_set_crops() -> None:
    transform = SPTransform(lambda image: [image[:, :20, :20], image[:, :48, :48]])
    image = torch.zeros(3, 60, 60, dtype=torch.uint8)
    assert transform(image)["sp"]["crops"].shape == (4, 3, 24, 24)


@pytest.mark.parametrize("count", (2, 4))
@pytest.mark.parametrize("flip", (0.0, 1.0))
def test_crops_match_boxes_of_flipped_image(flip: float, count: int) -> None:
    image = make_image()
    sample = ImageCrops({**PLAIN, "num_crops": count}, color_transform=identity, flip=flip)(image)
    flipped = as_float(v2.functional.hflip(image) if flip else image).expand(count, -1, -1, -1)
    expected = crop_resize(flipped, sample["boxes"], 16)
    # Without the edges, where Pillow gives partly covered pixels full weight.
    errors = (sample["crops"] - expected)[..., 2:-2, 2:-2]
    assert errors.abs().max() < 3 / 255
    assert not torch.allclose(expected[0], expected[1], atol=0.05)


def test_tensor_and_pil_give_same_crops() -> None:
    image = make_image()
    crops = ImageCrops({**PLAIN, "sharpness": "equal"}, color_transform=identity)
    from_pil = crops(image, key=3)
    for tensor in (as_float(image), v2.functional.pil_to_tensor(image)):
        from_tensor = crops(tensor, key=3)
        assert torch.equal(from_pil["boxes"], from_tensor["boxes"])
        assert (from_pil["crops"] - from_tensor["crops"]).abs().mean() < 2 / 255


def test_crops_of_wide_image_lie_in_a_square() -> None:
    """On a ramp along x, values are locations in pixels; boxes are fractions of the height."""
    ramp = torch.arange(400.0).expand(3, 100, 400) / 400
    crops, centres = ImageCrops(PLAIN, color_transform=identity, flip=0.0), []
    for key in range(20):
        sample = crops(ramp, key)
        x = (sample["crops"].mean((1, 2, 3)) * 400 + 0.5).double()
        centre, width = sample["boxes"][:, 0].double(), sample["boxes"][:, 2].double()
        assert x[1] - x[0] == pytest.approx(float(centre[1] - centre[0]) * 100, abs=0.1)
        span = (sample["crops"][:, 0, 0, -1] - sample["crops"][:, 0, 0, 0]).double() * 400
        assert torch.allclose(span, width * 100 * 15 / 16, atol=2.5)
        centres += x.tolist()
    assert min(centres) < 100 and max(centres) > 300  # the location of the square is random


def test_host_views_and_rng_are_unchanged() -> None:
    host = v1.Compose([v1.RandomResizedCrop(24), v1.ColorJitter(0.4), v1.ToTensor()])

    def draw(transform: Any) -> tuple[list[Any], tuple[Any, ...]]:
        torch.manual_seed(0), random.seed(0)
        views = [transform(make_image(seed=i)) for i in range(4)]
        return views, (torch.get_rng_state().tolist(), random.getstate())

    views, rng_states = draw(host)
    samples, rng_states_with_sp = draw(SPTransform(host, crop_size=8))
    assert rng_states == rng_states_with_sp
    for view, sample in zip(views, samples, strict=True):
        assert torch.equal(view, sample["views"])


def test_boxes_follow_rng_image_and_seed() -> None:
    def boxes_of(crops: ImageCrops, image: Any, host_seed: int) -> torch.Tensor:
        torch.manual_seed(host_seed)
        return crops(image)["boxes"]

    crops = ImageCrops(PLAIN)
    first = boxes_of(crops, make_image(), 0)
    assert torch.equal(first, boxes_of(crops, make_image(), 0))
    assert not torch.equal(first, boxes_of(crops, make_image(), 1))
    assert not torch.equal(first, boxes_of(crops, make_image(seed=1), 0))
    assert not torch.equal(first, boxes_of(ImageCrops({**PLAIN, "seed": 1}), make_image(), 0))


def test_boxes_follow_each_host_generator() -> None:
    """solo-learn's blur draws from Python's generator, MMSelfSup's crops draw from NumPy's."""
    crops, image = ImageCrops(PLAIN), make_image()
    for draw in (torch.rand, random.random, np.random.rand):
        before = crops.rng_key(image)
        assert crops.rng_key(image) == before
        draw(1) if draw is torch.rand else draw()
        assert crops.rng_key(image) != before


def test_set_config_applies_from_first_image() -> None:
    transform = SPTransform(lambda _: torch.zeros(3, 64, 64), PLAIN)
    transform.set_config(SPConfig(seed=7))
    torch.manual_seed(0)
    first = transform(make_image())["sp"]
    torch.manual_seed(0)
    assert torch.equal(first["boxes"], transform(make_image())["sp"]["boxes"])
    assert first["crops"].shape[-1] == 32


def test_each_crop_has_its_own_colors() -> None:
    grey = torch.full((3, 40, 40), 0.5)
    samples = default_collate([ImageCrops(PLAIN)(grey, key) for key in range(20)])
    colored = color_crops(Crops.from_batch(samples), make_generator(0)).pixels
    levels = colored.mean((2, 3)).unflatten(0, (4, 20))
    differ = (levels[0] - levels[1]).abs().amax(1) > 0.02
    assert sum(map(bool, differ)) > 10


def test_sharpness_is_matched_by_default() -> None:
    noise = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0))

    def detail(sharpness: str) -> torch.Tensor:
        config = {"crop_size": 24, "sharpness": sharpness, "crop_scale": (0.05, 0.3)}
        crops = ImageCrops(config, color_transform=identity)
        pixels = torch.stack([crops(noise, key)["crops"] for key in range(40)])
        roughness = pixels.diff(dim=4).std((3, 4)) / pixels.std((3, 4))
        return roughness.mean(2).log().diff(dim=1).abs().mean()

    assert detail("equal") < 0.5 * detail("native")


class Shifted(v1.Normalize):
    """Does more than its mean and std say."""

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return super().forward(tensor) + 9


MEAN, STD = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
NORMALIZES = {
    "one number": v1.Normalize(0.5, 0.2),
    "one number each": v1.Normalize([0.5], [0.2]),
    "v1": v1.Normalize(MEAN, STD),
    "v2": v2.Normalize(MEAN, STD),
    "in place": v1.Normalize(MEAN, STD, inplace=True),
    "tensors": v1.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    "subclass": Shifted(MEAN, STD),
    "callable": lambda crop: 2 * crop - 1,
}


@pytest.mark.parametrize("has_own_colors", (False, True))
@pytest.mark.parametrize("name", NORMALIZES)
def test_crops_are_normalized_like_views(name: str, has_own_colors: bool, monkeypatch) -> None:
    """Wherever that is done: on the device, or, where only calling it can tell, in the loader."""
    monkeypatch.setattr("sp_plugin.crops.transform.recolor", lambda images, _: images)
    monkeypatch.setattr("sp_plugin.crops.batch_colors.recolor", lambda images, _: images)
    normalize, colors = NORMALIZES[name], identity if has_own_colors else None
    sample = ImageCrops(PLAIN, normalize, colors)(make_image(), 1)
    is_uncolored = "normalization" in sample
    assert is_uncolored == (not has_own_colors and name not in ("subclass", "callable"))
    crops = Crops.from_batch(default_collate([sample]))
    crops = color_crops(crops, make_generator(0)) if is_uncolored else crops
    plain = ImageCrops(PLAIN, color_transform=identity)(make_image(), 1)["crops"]
    expected = torch.stack([normalize(crop.clone()) for crop in plain])
    torch.testing.assert_close(crops.pixels, expected)


def test_loader_colors_before_a_callable() -> None:
    seen: list[torch.Tensor] = []
    crops = ImageCrops(PLAIN, lambda crop: seen.append(crop) or crop + 5)(make_image(), 1)["crops"]
    assert torch.stack(seen).min() >= 0 and torch.stack(seen).max() <= 1 and crops.min() >= 5
    plain = ImageCrops(PLAIN, color_transform=identity)(make_image(), 1)["crops"]
    assert not torch.allclose(torch.stack(seen), plain, atol=0.02)


def test_normalize_of_the_transform_is_found() -> None:
    normalize = v1.Normalize(MEAN, STD)
    host = v1.Compose([v1.CenterCrop(32), v1.ToTensor(), normalize])
    assert find_normalize([{"a": host}]) is normalize
    assert find_normalize(v1.ToTensor()) is None
    rows = SPTransform(host, PLAIN)(make_image())["sp"]["normalization"]
    torch.testing.assert_close(rows, torch.tensor([[255.0] * 3, MEAN, STD]))


class _DoubledNormalize(v1.Normalize):
    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(tensor)


def test_subclass_of_normalize_is_called() -> None:
    normalize = _DoubledNormalize(MEAN, STD)
    host = v1.Compose([v1.ToTensor(), normalize])
    assert find_normalize(host) is normalize
    assert "normalization" not in SPTransform(host, PLAIN)(make_image())["sp"]


@pytest.mark.parametrize("channels", (1, 3, 13))
def test_a_batch_of_8_bits_is_one_of_bytes(channels: int) -> None:
    pixels = torch.randint(256, (channels, 40, 40), dtype=torch.uint8)
    for image, white in ((pixels, 255), (pixels / 255, 1)):
        crops = ImageCrops(PLAIN)
        crops._channels = channels
        sample = crops(image, 1)
        assert sample["crops"].dtype == (torch.uint8 if white == 255 else torch.float32)
        assert sample["normalization"].tolist() == [
            [white] * channels,
            [0] * channels,
            [1] * channels,
        ]
        unit = sample["crops"] / white
        crops.color_transform = identity
        assert (unit - crops(image, 1)["crops"]).abs().max() <= 0.501 / 255


def test_images_of_two_depths(monkeypatch) -> None:
    """In one process their batch is right; in a worker it cannot be collated."""
    monkeypatch.setattr("sp_plugin.crops.batch_colors.recolor", lambda images, _: images)
    images, crops = (make_image(), as_float(make_image())), ImageCrops(PLAIN)
    for order in (images, images[::-1]):
        batch = Crops.from_batch(default_collate([crops(image, 1) for image in order]))
        first, second = color_crops(batch, make_generator(0)).pixels.unflatten(0, (4, 2)).unbind(1)
        assert first.std() > 0.05 and (first - second).abs().mean() < 2 / 255
    monkeypatch.setattr("sp_plugin.crops.transform.get_worker_info", object)
    with pytest.raises(ConfigError, match=r"^source: 'image' got images of 8 bits and deeper ones"):
        crops(images[0]), crops(images[1])
    own = ImageCrops(PLAIN, color_transform=identity)
    assert {own(image)["crops"].dtype for image in images} == {torch.float32}


def test_open_settings_follow_view_size() -> None:
    for side, size in ((64, 32), (224, 96)):
        transform = SPTransform(lambda _, side=side: [torch.zeros(3, side, side)])
        assert transform(make_image(300, 300))["sp"]["crops"].shape[-1] == size
        assert transform.crops.config.window == (0.5, 1.0)


@pytest.mark.parametrize("count", (2, 3))
def test_collated_samples_are_accepted_by_sp(count: int) -> None:
    crops = ImageCrops({"crop_size": 8, "num_crops": count})
    samples = [crops(make_image(seed=i)) for i in range(5)]
    collated = Crops.from_batch(default_collate(samples))
    assert torch.equal(collated.pixels[5 + 3], samples[3]["crops"][1])
    assert torch.equal(collated.boxes[1, 3], samples[3]["boxes"][1])
    sp = SpatialPrediction(
        3,
        SPConfig(
            crop_size=8,
            source="image",
            num_crops=count,
            sample_fraction=1,
            relative_weight=False,
        ),
    )
    out = sp(torch.nn.Identity(), collated, step=0)
    first = collated.boxes[:2]
    assert torch.equal(out.boxes[:, :5], first)
    assert torch.equal(out.target[:5], sp.targets.encode(*first))


def test_crops_are_resized_to_input_size() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[-1] == 32
            return x.flatten(2).mean(2)

    sp = SpatialPrediction.from_backbone(
        Fixed(), torch.zeros(2, 3, 40, 40), SPConfig(crop_size=20, relative_weight=False)
    )
    crops = Crops(torch.rand(2, 4, 4), torch.rand(8, 3, 20, 20))
    assert sp(Fixed(), crops, step=0).loss.isfinite()


def test_transform_is_picklable() -> None:
    transform = pickle.loads(pickle.dumps(SPTransform(v1.ToTensor(), PLAIN)))
    assert transform(make_image())["sp"]["crops"].shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    "settings", ({"max_iou": (1.0, 0.1)}, {"crop_scale": ((0.3, 0.6), (0.1, 0.3))})
)
def test_moving_ranges_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="takes one value where source is 'image'"):
        ImageCrops(settings)


def test_non_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"source: 'image' takes PIL images and tensors"):
        ImageCrops()([1, 2])


class JointTransform:
    """Gets an image and a target, as a data set with boxes or labels calls it."""

    def __init__(self, container: Any = tuple) -> None:
        self.container = container

    def __call__(self, image: Any, target: Any, scale: int = 1) -> Any:
        return self.container((as_float(image)[:, :32, :32] * scale, target))


Pair = collections.namedtuple("Pair", ("image", "target"))


@pytest.mark.parametrize("container", (tuple, Pair._make), ids=("tuple", "NamedTuple"))
def test_target_is_passed_on(container: Any) -> None:
    host, image = JointTransform(container), make_image()
    sample, target = SPTransform(host, PLAIN)(image, 7, scale=2)
    assert target == 7 and sample["sp"]["crops"].shape == (4, 3, 16, 16)
    assert torch.equal(sample["views"], host(image, 7, scale=2)[0])


def test_target_is_collated_as_without_sp() -> None:
    host, image = JointTransform(), make_image()
    batch, sp_batch = split_batch(default_collate([SPTransform(host, PLAIN)(image, 7)]))
    assert torch.equal(batch[0][0], host(image, 7)[0]) and batch[1].tolist() == [7]
    assert sp_batch.pixels.shape == (4, 3, 16, 16)


def test_result_of_no_tuple_is_the_views() -> None:
    sample = SPTransform(JointTransform(list), PLAIN)(make_image(), target=7)
    assert sample["views"][1] == 7 and set(sample) == {"views", "sp"}


@pytest.mark.parametrize("key", ("image", "img", "photo"))
def test_dict_sample_gives_its_crops(key: str) -> None:
    image = torch.randint(0, 256, (3, 48, 60), dtype=torch.uint8)
    of_image = SPTransform(v2.ToDtype(torch.float32, scale=True), crop_size=16)
    torch.manual_seed(0)
    expected = of_image(image)["sp"]
    sample = {"label": 3, key: image, "mask": torch.zeros(3, 48, 60)}

    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        sample[key] = sample[key] / 255
        return {"views": [sample], "label": sample["label"]}

    torch.manual_seed(0)
    made = SPTransform(transform, crop_size=16)(sample)
    assert made["views"]["label"] == 3
    assert torch.equal(made["sp"]["crops"], expected["crops"])
