"""Locations recorded from the method's own transforms: boxes and flips reproduce the views."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.datasets import FakeData
from torchvision.transforms import functional as F
from torchvision.transforms import v2

from sp_plugin import ConfigError, ViewBoxes, ViewBoxTransform
from sp_plugin.view_search import find_views

BOTH = pytest.mark.parametrize("T", (v1, v2), ids=("v1", "v2"))


def make_image(width: int = 61, height: int = 47, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def seed_all(seed: int = 0) -> None:
    torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)  # noqa: NPY002


def reproduce_view(image: Image.Image, box: Tensor, flips: Tensor, size: int) -> Tensor:
    """The view that a box and flips describe, cut out by torchvision's functions."""
    width, height = image.size
    w, h = round(float(box[2]) * width), round(float(box[3]) * height)
    left = round(float(box[0]) * width - w / 2)
    top = round(float(box[1]) * height - h / 2)
    crop = F.resized_crop(image, top, left, h, w, [size, size])
    crop = F.hflip(crop) if flips[0] < 0 else crop
    return F.pil_to_tensor(F.vflip(crop) if flips[1] < 0 else crop)


class DictTransform:
    """Views in a dict."""

    def __init__(self, *parts: Callable[[Any], Any]) -> None:
        self.parts = {"views": list(parts)}

    def __call__(self, image: Any) -> dict[str, Any]:
        return {"views": [part(image) for part in self.parts["views"]]}


def to_tensor(T: Any) -> Any:
    return T.ToTensor() if T is v1 else T.Compose([T.ToImage(), T.ToDtype(torch.float32, True)])


@BOTH
@pytest.mark.parametrize("flips_first", (False, True))
def test_boxes_and_flips_reproduce_pixels(T: Any, flips_first: bool) -> None:
    flips = [T.RandomHorizontalFlip(), T.RandomVerticalFlip()]
    crop = T.RandomResizedCrop(24)
    geometry = [*flips, crop] if flips_first else [crop, *flips]
    one = T.Compose([*geometry, to_tensor(T)])
    host = ViewBoxTransform(DictTransform(one, one, T.Compose([T.RandomApply([one], p=1.0)])))
    seed_all()
    drawn_flips = set()
    for seed in range(12):
        image = make_image(seed=seed)
        sample = host(image)
        for view, box, flip in zip(
            sample["views"]["views"], sample["sp"]["boxes"], sample["sp"]["flips"], strict=True
        ):
            drawn_flips.add(tuple(flip.tolist()))
            reproduced = reproduce_view(image, box, flip, 24)
            if (
                flips_first
            ):  # resizing a flipped crop rounds differently from flipping a resized one
                assert (reproduced.float() - view * 255).abs().max() <= 1.01
            else:
                assert torch.equal(reproduced, (view * 255).round().byte())
    assert len(drawn_flips) == 4, "not every flip was drawn"


@BOTH
def test_chained_geometry_gives_exact_box(T: Any) -> None:
    """Each pixel holds its location in the image, which the box has to match."""
    ramp = torch.stack(torch.meshgrid(torch.arange(64), torch.arange(48), indexing="xy")).float()
    ramp = torch.cat([ramp / 64, torch.zeros(1, 48, 64)])
    chain = T.Compose([
        T.Resize((96, 128), interpolation=F.InterpolationMode.NEAREST), T.RandomHorizontalFlip(1.0),
        T.CenterCrop(80), T.RandomCrop(60), T.RandomVerticalFlip(1.0), T.RandomCrop((30, 40)),
    ])  # fmt: skip
    host = ViewBoxTransform(DictTransform(chain))
    seed_all()
    for _ in range(10):
        sample = host(ramp)
        (view,), (box,) = sample["views"]["views"], sample["sp"]["boxes"]
        x, y = view[0] * 64, view[1] * 64
        centre = torch.tensor([(x.min() + x.max() + 1) / 2 / 64, (y.min() + y.max() + 1) / 2 / 48])
        assert torch.allclose(box[:2], centre, atol=0.5 / 48)
        assert box[2:].tolist() == pytest.approx([40 / 128, 30 / 96])
        assert sample["sp"]["flips"].tolist() == [[-1.0, -1.0]]
        assert x[0, 0] > x[0, -1] and y[0, 0] > y[-1, 0]


@BOTH
@pytest.mark.parametrize(
    "make_warp",
    (
        lambda T: T.RandomRotation(30), lambda T: T.RandomAffine(10), lambda T: T.Pad(4),
        lambda T: T.RandomPerspective(p=1.0), lambda T: T.RandomCrop(20, padding=4),
        lambda T: T.FiveCrop(16), lambda T: T.ElasticTransform(), lambda T: T.RandAugment(),
        lambda T: T.CenterCrop(60),
    ),
)  # fmt: skip
def test_unsupported_transform_gives_nan_box(T: Any, make_warp: Any) -> None:
    first = v1.Lambda(lambda out: out[0] if isinstance(out, tuple) else out)
    warped = T.Compose([make_warp(T), first, T.RandomResizedCrop(16), to_tensor(T)])
    skipped_warp = T.RandomApply([make_warp(T)], p=0.0)
    straight = T.Compose([skipped_warp, T.RandomResizedCrop(16), to_tensor(T)])
    host = ViewBoxTransform(DictTransform(warped, straight))
    for seed in range(8):
        seed_all(seed)
        boxes = host(make_image(48, 48))["sp"]["boxes"]
        assert boxes[0].isnan().all() and boxes[1].isfinite().all()


class RandomBrightness:
    """A callable that is no module."""

    def __call__(self, image: Any) -> Any:
        return F.adjust_brightness(image, random.uniform(0.5, 1.5))


class QuarterTurn(RandomBrightness):
    def __call__(self, image: Any) -> Any:
        return F.rotate(image, 90)


class HiddenMirror(RandomBrightness):
    """Flips by a function after its tracked crop."""

    def __init__(self) -> None:
        self.crop = v1.RandomResizedCrop(24)

    def __call__(self, image: Any) -> Any:
        return F.to_tensor(F.hflip(self.crop(image)))


class HiddenCrop(v1.RandomResizedCrop):
    """Crops without drawing parameters by torchvision's method."""

    def forward(self, image: Any) -> Any:
        return F.resized_crop(image, 2, 3, 10, 12, [24, 24])


def test_opaque_callables_give_nan_boxes() -> None:
    tail = [
        v1.RandomResizedCrop(24),
        RandomBrightness(),
        lambda image: image.convert("L").convert("RGB"),
    ]
    rotate = type("RandomRotate", (QuarterTurn,), {})()
    host = DictTransform(
        v1.Compose([RandomBrightness(), *tail, v1.ToTensor()]),
        v1.Compose([*tail, rotate, v1.ToTensor()]),
        HiddenMirror(),
        v1.Compose([v1.RandomResizedCrop(24), HiddenCrop(24), v1.ToTensor()]),
        v1.Compose([lambda image: image.crop((0, 0, 12, 12)), *tail, v1.ToTensor()]),
    )
    seed_all()
    boxes = ViewBoxTransform(host)(make_image(24, 24))["sp"]["boxes"]
    assert boxes.isnan().all(dim=1).tolist() == [False, True, True, True, True]


def test_untrackable_transform_is_refused() -> None:
    crop = v1.RandomResizedCrop(16)

    def hidden(image: Any) -> list[Any]:
        return [F.to_tensor(crop(image)) for _ in range(2)]  # the crop is inside a closure

    host = ViewBoxTransform(hidden)
    for call in (lambda: host(make_image()), lambda: host.sample_boxes(2)):
        with pytest.raises(ConfigError) as caught:
            call()
        line = str(caught.value)
        assert line.startswith("source: got 'host_views', but no view of hidden can be located")
        assert line.endswith("take 'view' or 'image'") and "\n" not in line


def test_failure_on_blank_image_is_explained() -> None:
    class NeedsPil(HiddenMirror):
        def __call__(self, image: Any) -> Any:
            return image.getpixel((0, 0))

    with pytest.raises(ConfigError, match="no attribute 'getpixel'; SP tracks torchvision"):
        ViewBoxTransform(DictTransform(NeedsPil())).sample_boxes(1)


@BOTH
def test_views_and_rng_are_unchanged(T: Any) -> None:
    def make_host() -> Any:
        one = T.Compose([
            T.RandomResizedCrop(24), T.RandomHorizontalFlip(), T.ColorJitter(0.4, 0.4, 0.4, 0.1),
            RandomBrightness(), T.RandomGrayscale(0.5), to_tensor(T),
            T.Normalize((0.5,) * 3, (0.2,) * 3),
        ])  # fmt: skip
        return DictTransform(one, T.RandomApply([one], p=1.0), one.transforms[0])

    def run(host: Any) -> tuple[Any, ...]:
        seed_all()
        views = [host(make_image(seed=seed)) for seed in range(4)]
        return views, torch.rand(1), random.random()

    expected, *rng_states = run(make_host())
    host = make_host()
    before = pickle.dumps(host)
    wrapped = ViewBoxTransform(host)
    assert pickle.dumps(host) != before
    samples, *rng_states_with_sp = run(wrapped)
    assert rng_states == rng_states_with_sp
    for sample, views in zip(samples, expected, strict=True):
        *tensors, crop = sample["views"]["views"]
        assert all(map(torch.equal, tensors, views["views"][:-1]))
        assert crop.tobytes() == views["views"][-1].tobytes()
    wrapped.sample_boxes(3)
    wrapped.remove()
    assert rng_states == list(run(host)[1:])
    assert pickle.dumps(host) == before


@BOTH
def test_shared_transforms_are_tracked(T: Any) -> None:
    """Two data sets with one transform, or with transforms that have a part in common."""
    one = T.Compose(
        [T.RandomResizedCrop(24), RandomBrightness(), T.RandomHorizontalFlip(), to_tensor(T)]
    )
    shared = DictTransform(one, one)
    unshared = ViewBoxTransform(copy.deepcopy(shared))
    before = pickle.dumps(shared)
    hosts = [
        ViewBoxTransform(shared),
        ViewBoxTransform(shared),
        ViewBoxTransform(DictTransform(one, T.RandomVerticalFlip(1.0))),
    ]
    for host in (unshared, *hosts[:2]):
        assert torch.equal(host.sample_boxes(4), unshared.sample_boxes(4))
        seed_all()
        sample = host(make_image())["sp"]
        seed_all()
        expected = unshared(make_image())["sp"]
        assert all(torch.equal(sample[key], expected[key]) for key in expected)
    assert hosts[2].sample_boxes(4).isfinite().all()
    for host in reversed(hosts):
        host.remove()
    assert pickle.dumps(shared) == before


def test_sampled_boxes_are_deterministic() -> None:
    one = v1.Compose([v1.RandomResizedCrop(24, (0.1, 0.4)), RandomBrightness(), v1.ToTensor()])
    host = ViewBoxTransform(DictTransform(one, one))
    before = torch.get_rng_state(), random.getstate()
    boxes = host.sample_boxes()
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert boxes.shape[1:] == (2, 4) and torch.equal(boxes, host.sample_boxes())
    areas = boxes[..., 2] * boxes[..., 3]
    assert 0.09 < areas.min() < 0.12 and 0.38 < areas.max() < 0.41
    # The same distribution as that of the transform on images of that size.
    seed_all()
    recorded = torch.stack([host(make_image(256, 256))["sp"]["boxes"] for _ in range(200)])
    assert torch.allclose(recorded.std(dim=(0, 1)), boxes.std(dim=(0, 1)), rtol=0.15)


@pytest.mark.parametrize("start", ("fork", "spawn"))
def test_fork_and_spawn_workers_record_boxes(start: str) -> None:
    """A spawned worker gets a pickled copy."""
    one = v2.Compose([v2.RandomResizedCrop(24), v2.RandomHorizontalFlip(), v1.ToTensor()])
    host = ViewBoxTransform(one)
    assert torch.equal(pickle.loads(pickle.dumps(host)).sample_boxes(2), host.sample_boxes(2))
    data = FakeData(6, (3, 32, 32), transform=host)
    for batch, _ in DataLoader(data, 3, num_workers=1, multiprocessing_context=start):
        boxes, flips = ViewBoxes.from_batch(batch["sp"])
        assert boxes.shape == (1, 3, 4) and flips.shape == (1, 3, 2)
        assert boxes.isfinite().all() and boxes[0, :, 2].max() < 1.01
        assert not torch.equal(boxes[0, 0], boxes[0, 1])
        assert [view.shape for view in find_views(batch["views"])] == [(3, 3, 24, 24)]


@BOTH
def test_target_is_passed_on(T: Any) -> None:
    class Joint:
        def __init__(self) -> None:
            self.augment = T.Compose([T.RandomResizedCrop(16), T.RandomHorizontalFlip()])
            self.to_tensor = to_tensor(T)

        def __call__(self, image: Any, target: Any) -> tuple[Any, Any]:
            return self.to_tensor(self.augment(image)), target

    transform = ViewBoxTransform(Joint())
    assert transform.sample_boxes(3).shape == (3, 1, 4)
    seed_all()
    sample, target = transform(make_image(), "cat")
    transform.remove()
    seed_all()
    assert target == "cat" and sample["sp"]["boxes"].shape == (1, 4)
    assert torch.equal(sample["views"], Joint()(make_image(), "cat")[0])


class OnSamples:
    """A transform of torchvision on a part of a dict sample, by a ``__call__`` of its own."""

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        image = sample["image"]
        if isinstance(self, v2.RandomHorizontalFlip):
            new = F.hflip(image) if torch.rand(1) < self.p else image
        else:
            new = self.transform(image, self.make_params([image]))  # type: ignore[attr-defined]
        sample["image"] = new
        return sample


class SampleCrop(OnSamples, v2.RandomResizedCrop): ...


class SampleFlip(OnSamples, v2.RandomHorizontalFlip): ...


class SampleChain(v2.Transform):
    """Transforms one after the other, on a copy of the sample for each view."""

    def __init__(self, *parts: Any, views: int = 1) -> None:
        super().__init__()
        self.parts, self.views = parts, views

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        made = []
        for _ in range(self.views):
            one = dict(sample)
            for part in self.parts:
                one = part(one)
            made.append(one)
        return {"views": made}


@pytest.mark.skipif(not hasattr(v2.Transform, "transform"), reason="torchvision 0.21 named it so")
def test_dict_samples_are_tracked() -> None:
    def convert(sample: dict[str, Any]) -> dict[str, Any]:
        image = sample["image"]
        return {**sample, "image": image if torch.is_tensor(image) else F.to_tensor(image)}

    chain = SampleChain(SampleCrop(24), SampleFlip(), convert, views=4)
    sample = {"mask": torch.zeros(1, 8, 8), "label": 3, "image": make_image()}
    seed_all()
    plain = chain(sample)
    host = ViewBoxTransform(chain)
    seed_all()
    made = host(sample)
    assert made["views"]["views"][0]["label"] == 3
    for n, view in enumerate(made["views"]["views"]):
        assert torch.equal(view["image"], plain["views"][n]["image"])
        box, flips = made["sp"]["boxes"][n], made["sp"]["flips"][n]
        reproduced = reproduce_view(sample["image"], box, flips, 24)
        assert (view["image"] * 255 - reproduced).abs().max() <= 1
    assert {float(x) for x in made["sp"]["flips"][:, 0]} == {-1.0, 1.0}
    boxes = host.sample_boxes(8)
    assert boxes.shape == (8, 4, 4) and not boxes.isnan().any()
    host.remove()
    assert isinstance(chain.parts[0], SampleCrop) and "make_params" not in vars(chain.parts[0])


def test_sample_without_image_is_refused() -> None:
    host = ViewBoxTransform(SampleChain(SampleCrop(24)))
    with pytest.raises(ConfigError, match="have no image, they have label, text"):
        host({"label": 3, "text": "a cat"})


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_views_of_any_channels_are_located(channels: int) -> None:
    """A mask of another channel count is no view, whichever comes first."""
    crop = v2.RandomResizedCrop((16, 40))
    image = torch.rand(channels, 30, 90)
    for order in (slice(None), slice(None, None, -1)):
        transform = ViewBoxTransform(
            DictTransform(*[crop, v2.Compose([crop, lambda x: x[:1].expand(5, -1, -1)])][order])
        )
        sample = transform(image)
        (view,) = [view for view in sample["views"]["views"] if len(view) == channels]
        assert view.shape == (channels, 16, 40) and sample["sp"]["boxes"].shape == (1, 4)
        x, y, w, h = sample["sp"]["boxes"][0] * torch.tensor([90, 30, 90, 30])
        part = image[..., round(float(y - h / 2)) : round(float(y + h / 2)), :]
        part = part[..., round(float(x - w / 2)) : round(float(x + w / 2))]
        expected = v2.functional.resize(part, [16, 40], antialias=True)
        torch.testing.assert_close(view, expected)
        assert transform.sample_boxes(n=2).shape[0] == 2


def test_own_generator_is_left_alone() -> None:
    class Seeded:
        def __init__(self) -> None:
            self.draws = random.Random(0)
            self.crops = v1.CenterCrop(16), v1.CenterCrop(24)

        def __call__(self, image: Any) -> Any:
            return self.draws.choice(self.crops)(image)

    transform = ViewBoxTransform(Seeded())
    before = transform.original.draws.getstate()
    assert transform.sample_boxes(n=4).shape == (4, 1, 4)
    assert transform.original.draws.getstate() == before
    transform(make_image())
    assert transform.original.draws.getstate() != before
