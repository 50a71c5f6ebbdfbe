"""Digests of what the plug-in computes, to show that a change of the code changes no number.

Each case is a short training run or a call of one function, from fixed seeds on one CPU thread. A
digest is the SHA-256 of all weights and buffers afterwards, by value and in a fixed order; metrics
are kept as hexadecimal floats, so that a difference shows the first step at which it occurs. The
digests hold for one CPU model and one set of versions, which are stored with them.

    python tests/regression/digests.py --out tests/regression/digests.json
    python tests/regression/digests.py --compare tests/regression/digests.json

The cases use the names in the section "Names of the plug-in", and no others.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import json
import logging
import platform
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightly.transforms
import numpy as np
import pytorch_lightning as pl
import torch
import torchvision
from PIL import Image
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

# isort: split
# --- Names of the plug-in ---------------------------------------------------------------------
# The cases below use no other names of it, so a later change of names is made here alone.
from sp_bench.backbones import make_backbone
from sp_bench.methods import METHODS
from sp_lightning import SPCallback

from sp_plugin import (
    CropSampler,
    ImageCrops,
    SpatialPrediction,
    SPConfig,
    SPTransform,
    TargetEncoder,
    ViewBoxTransform,
    crop_resize,
)

LOG_PREFIX = "train_sp_"
MM_LOG_PREFIX = "sp_"
MM_LOG_KEYS = {"loss": "sp_unweighted", "scaled_loss": "sp_loss"}  # the others have the prefix
# Buffers of SpatialPrediction in the order in which they are hashed.
BUFFERS = (
    "targets.std",
    "balance.log_ratio",
    "balance.host_sq_norm",
    "balance.sp_sq_norm",
    "balance.loss_multiplier",
)
TARGET_STD = "std"  # attribute of TargetEncoder
IMAGE_SAMPLE = ("crops", "boxes")  # keys of what ImageCrops returns
VIEW_BOXES = ("boxes", "flips")  # keys of what ViewBoxTransform adds to the views


def mm_tools() -> SimpleNamespace:
    """What the MMSelfSup cases take from the tests of that adapter; it is slow to import."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "adapters" / "sp_mmselfsup"))
    try:
        configs = importlib.import_module("mm_configs")
    finally:
        sys.path.pop(0)
    return SimpleNamespace(
        make_images=configs.make_images,
        small_config=configs.small,
        add_sp=configs.with_sp,
        add_view_boxes=configs.with_views,
        train=configs.trained,
        model_of=configs.model_of,
        without_sp=configs.without_sp,
        crops_transform="SPCrops",
    )


# --- From here on only names of the section above ---------------------------------------------
ALL_SOURCES = ("view", "image", "host_views")
STEPS = 12  # the weight is measured at steps 0, 2, 4 and 8
BATCH = 8
SIDE = 32  # of the views in pixels
METRIC_NAMES = ("loss", "r2_dx", "r2_dy", "r2_scale", "weight", "skipped_fraction")
# Packages whose version can change a number; versions of others are not compared.
PACKAGES = ("torch", "torchvision", "timm", "lightly", "pytorch-lightning", "numpy", "pillow")

Record = dict[str, str]  # what is compared of a case, by field


def sp_config(**settings: Any) -> SPConfig:
    """An SPConfig from settings by name, on whole batches unless they say otherwise."""
    return SPConfig(**{"sample_fraction": 1.0, **settings})


def log_key(name: str) -> str:
    """A metric's key in Lightning's log."""
    return LOG_PREFIX + name


def mm_log_key(name: str) -> str:
    """A metric's key in MMEngine's log."""
    return MM_LOG_KEYS.get(name, MM_LOG_PREFIX + name)


# --- Digests ----------------------------------------------------------------------------------


def digest(values: Iterable[Any]) -> str:
    """SHA-256 of the elements of tensors, one after the other; names and shapes do not count."""
    sha = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            sha.update(flat.view(torch.uint8).numpy().tobytes())
        else:
            sha.update(repr(value).encode())
    return sha.hexdigest()


def hexadecimal(values: Iterable[Any]) -> str:
    """Numbers as hexadecimal floats, separated by spaces; NaN equals NaN, and -0 equals 0."""
    return " ".join((float(value) + 0.0).hex() for value in values)


def digest_of_sp(sp: nn.Module) -> str:
    """Digest of the head's parameters and of SP's buffers.

    Raises:
        AssertionError: SP has a buffer that BUFFERS does not name.
    """
    buffers = [functools.reduce(getattr, path.split("."), sp) for path in BUFFERS]
    values = [*sp.head.state_dict().values(), *buffers]
    total = sum(value.numel() for value in sp.state_dict().values())
    assert sum(value.numel() for value in values) == total, "BUFFERS does not name all buffers"
    return digest(values)


def digest_of_generators() -> str:
    """Digest of the state of the global random generators of torch, Python and NumPy."""
    words = np.random.get_state()[1:3]  # noqa: NPY002
    return digest([torch.get_rng_state(), random.getstate(), words[0].tolist(), int(words[1])])


class Recorder:
    """Keeps what SpatialPrediction returns in each step, in whatever adapter it runs.

    Attributes:
        sp: the module that was called last.
        steps: number of calls.
    """

    def __init__(self) -> None:
        self.sp: Any = None
        self.steps = 0
        self._metrics: dict[str, list[Tensor]] = {name: [] for name in METRIC_NAMES}
        self._losses: list[Tensor] = []
        self._pairs: list[Tensor] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[Recorder]:
        """Record the calls inside of the block."""
        # A hook on all modules needs no attribute of an adapter, whenever SP is built.
        handle = nn.modules.module.register_module_forward_hook(self._on_output)
        try:
            yield self
        finally:
            handle.remove()

    def _on_output(self, module: nn.Module, _: Any, out: Any) -> None:
        if not isinstance(module, SpatialPrediction):
            return
        self.sp = module
        self.steps += 1
        assert len(out.metrics) == len(METRIC_NAMES), f"METRIC_NAMES: {sorted(out.metrics)}"
        for name, values in self._metrics.items():
            values.append(out.metrics[name].clone())
        self._losses.append(out.loss.detach().clone())
        self._pairs += [part.detach().clone() for part in (out.boxes, out.prediction, out.target)]

    def record(self, state: Mapping[str, Tensor]) -> Record:
        """The fields of a training run.

        Args:
            state: state dict of the trained module, without SP.
        """
        return {
            "weights": digest(state.values()),
            "sp": digest_of_sp(self.sp),
            "pairs": digest(self._pairs),
            "generators": digest_of_generators(),
            "steps": str(self.steps),
            "scaled loss": hexadecimal(self._losses),
            **{f"metric {name}": hexadecimal(vs) for name, vs in self._metrics.items()},
        }


def seed_all(seed: int) -> None:
    """Seed the global generators of torch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def smooth_images(count: int, side: int, seed: int) -> Tensor:
    """Images (count, 3, side, side) of low frequencies, roughly normalized."""
    coarse = torch.rand(count, 3, 6, 6, generator=generator(seed)) * 4 - 2
    return F.interpolate(coarse, (side, side), mode="bilinear")


def pil_image(index: int, width: int = 64, height: int = 48) -> Image.Image:
    """An image of random colours, the same for the same index."""
    coarse = np.random.default_rng(index).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


# --- Backbones --------------------------------------------------------------------------------


def small_resnet(**options: Any) -> nn.Module:
    """timm's ResNet with one narrow block a stage, for small images."""
    net = ResNet(
        BasicBlock,
        layers=(1, 1, 1, 1),
        channels=(8, 16, 24, 32),
        stem_type="deep",
        stem_width=4,
        num_classes=0,
        **options,
    )
    net.maxpool = nn.Identity()
    return net


def small_vit(img_size: int = 48, **options: Any) -> nn.Module:
    """timm's ViT, two blocks deep, for images of any size."""
    return VisionTransformer(
        img_size=img_size,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        num_classes=0,
        dynamic_img_size=True,
        **options,
    )


def torchvision_shufflenet() -> nn.Module:
    """torchvision's ShuffleNet, narrow, and with its classifier."""
    return torchvision.models.ShuffleNetV2([1, 2, 1], [16, 16, 32, 64, 64], num_classes=10)


# --- Training runs with Lightning -------------------------------------------------------------


class Images(Dataset[Any]):
    """PIL images of two sizes, transformed, with their index for a label."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 3 * BATCH

    def __getitem__(self, index: int) -> tuple[Any, int]:
        size = (64, 48) if index % 2 else (56, 80)
        return self.transform(pil_image(index, *size)), index


# Backbones, and the width of their features.
BACKBONES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "tiny_resnet": (functools.partial(make_backbone, "tiny_resnet", SIDE), 256),
    "tiny_vit": (functools.partial(make_backbone, "tiny_vit", SIDE), 192),
    "small_resnet": (functools.partial(small_resnet, drop_path_rate=0.2), 32),
    "small_vit": (functools.partial(small_vit, img_size=SIDE), 32),
}


def lightning_run(method: str, backbone: str, **settings: Any) -> Record:
    """A method of sp_bench with SPCallback in a Trainer: four epochs of three steps."""
    seed_all(0)
    make, dim = BACKBONES[backbone]
    host = METHODS[method](make(), dim, SIDE, 0.03, 1e-4, BATCH)
    host.to(memory_format=torch.channels_last)
    data = Images(METHODS[method].transform(SIDE))
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=0, generator=generator(1))
    callback = SPCallback("backbone", sp_config(warmup_fraction=0.0, **settings))
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_steps=STEPS, max_epochs=-1, callbacks=[callback],
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with Recorder().recording() as recorder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(host, loader)
    logged = {
        f"logged {name}": hexadecimal([trainer.callback_metrics[log_key(name)]])
        for name in METRIC_NAMES
    }
    return {**recorder.record(host.state_dict()), **logged}


# --- Training runs without a framework --------------------------------------------------------


def plain_run(
    backbone: Callable[[], nn.Module] = small_resnet,
    side: int = SIDE,
    autocast: bool = False,
    feature_fn: Any = None,
    **settings: Any,
) -> Record:
    """SpatialPrediction in a plain loop, added to a loss that needs no second network.

    Args:
        backbone: makes the backbone.
        side: of the images in pixels.
        autocast: whether the forward passes are in bfloat16.
        feature_fn: for SpatialPrediction.from_backbone.
        **settings: of SPConfig, by their new names.
    """
    seed_all(0)
    net = backbone()
    images = smooth_images(STEPS * BATCH, side, seed=1)
    config = sp_config(**{"warmup_fraction": 0.0, **settings})
    sp = SpatialPrediction.from_backbone(net, images[:BATCH], config, feature_fn)
    parameters = [*net.parameters(), *sp.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-4)
    with Recorder().recording() as recorder:
        for step, batch in enumerate(images.split(BATCH)):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                features = net(batch)
                spread = (features.float().std(dim=0) - 1).square().mean()
                loss = spread + sp(net, batch, step=step, progress=step / STEPS).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return recorder.record(net.state_dict())


def first_stage(net: nn.Module, images: Tensor) -> Tensor:
    """A feature function: the output of the first stage of `small_resnet`."""
    return net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(images)))))


PLAIN: dict[str, dict[str, Any]] = {
    # The default is 4 crops and all their pairs.
    "symmetric": {"target_encoding": "symmetric"},
    "anchor": {"target_encoding": "anchor"},
    "image": {"target_encoding": "image"},
    "head-plain": {"head": "plain"},
    "head-difference": {"head": "difference"},
    "2-crops-antisymmetric": {"num_crops": 2, "head": "antisymmetric"},
    "2-crops-plain-mse": {"num_crops": 2, "head": "plain", "loss": "mse"},
    "2-crops-difference": {"num_crops": 2, "head": "difference"},
    "4-crops-2-pairs": {"num_crops": 4, "num_pairs": 2, "hidden_dim": 64},
    # On a CPU images of more than 72 x 72 px are resized another way than small ones.
    "sharpness-equal-80px": {"side": 80, "sharpness": "equal", "seed": 5},
    "sharpness-native-80px": {"side": 80, "sharpness": "native"},
    "max-iou-moving": {"max_iou": (1.0, 0.1)},
    "crop-scale-moving-l1": {
        "crop_scale": ((0.3, 0.6), (0.05, 0.2)),
        "crop_ratio": (0.5, 2.0),
        "loss": "l1",
    },
    "window-native": {
        "crop_size": 24,
        "window": (0.5, 1.0),
        "sharpness": "native",
    },
    "unscaled-weight": {
        "relative_weight": False,
        "weight": 2.0,
        "warmup_fraction": 0.3,
        "cooldown_fraction": 0.3,
    },
    "weight-schedule": {
        "weight": 0.3,
        "warmup_fraction": 0.5,
        "cooldown_fraction": 0.25,
    },
    "weight-0": {"weight": 0.0},
    "update-bn": {"update_bn": True},
    "sample-fraction": {"sample_fraction": 0.25},
    "layer": {"layer": "layer3"},
    "feature-fn": {"feature_fn": first_stage},
    "vit": {"backbone": functools.partial(small_vit, drop_path_rate=0.2, reg_tokens=3)},
    "vit-cls": {"backbone": small_vit, "pool": "cls"},
    "vit-autocast": {"backbone": small_vit, "autocast": True},
    "torchvision": {"backbone": torchvision_shufflenet, "side": 48},
}


# --- Pure functions ---------------------------------------------------------------------------


def resolved_settings() -> Record:
    """Defaults of SPConfig, and what it resolves for views of several sizes."""
    record = {}
    for source in ALL_SOURCES:
        for view_size in (32, 64, 96, 224):
            config = sp_config(source=source).resolve(view_size)
            for name, value in config.asdict().items():
                record[f"{source} {view_size} {name}"] = json.dumps(value)
    return record


# Positional arguments of CropSampler: scale, ratio, window, max_iou, tries, number of crops.
_RATIO = (3 / 4, 4 / 3)
SAMPLERS: dict[str, tuple[Any, ...]] = {
    "default": (),
    "4 crops": ((0.05, 0.32), _RATIO, (1.0, 1.0), 0.1, 10, 4),
    "8 crops": ((0.15, 0.32), _RATIO, (0.5, 1.0), 0.1, 10, 8),
    "moving": (((0.3, 0.6), (0.05, 0.2)), (0.5, 2.0), (1.0, 1.0), (1.0, 0.1), 10, 3),
    "no overlap": ((0.4, 0.9), _RATIO, (0.5, 1.0), 0.0, 3, 3),
}


def sampled_boxes() -> Record:
    """Boxes of CropSampler, at three points of training and at one for each image."""
    record = {}
    for name, arguments in SAMPLERS.items():
        sampler = CropSampler(*arguments)
        points = (0.0, 0.4, 1.0, torch.linspace(0, 1, 64))
        record[name] = digest(sampler(64, generator(n), at) for n, at in enumerate(points))
    return record


def target_constants() -> Record:
    """Standard deviations of TargetEncoder, and its targets of some pairs, there and back."""
    record = {}
    a, b = CropSampler()(32, generator(3))
    for encoding in ("symmetric", "anchor", "image"):
        for name, arguments in SAMPLERS.items():
            targets = TargetEncoder(CropSampler(*arguments), encoding)
            record[f"{encoding} {name}"] = hexadecimal(getattr(targets, TARGET_STD))
        encoded = targets.encode(a, b)
        record[f"{encoding} encode"] = digest([encoded])
        record[f"{encoding} decode"] = digest([targets.decode(encoded, a)])
    return record


def resized_crops() -> Record:
    """Outputs of crop_resize by each of its ways, and the gradients in the images.

    On a CPU images of more than 72 x 72 px are resized another way than small ones, and boxes on
    whole pixels without a given resolution a third way.
    """
    boxes = CropSampler()(6, generator(0))[0]
    record = {}
    for size, (height, width) in (("small", (48, 64)), ("large", (96, 128))):
        pixels = boxes * torch.tensor([width, height, width, height])
        low = (pixels[:, :2] - pixels[:, 2:] / 2).round()
        sides = pixels[:, 2:].round().clamp_min(1)
        whole = torch.cat([low + sides / 2, sides], 1) / torch.tensor([width, height] * 2)
        resolution = torch.randint(1, 25, (6, 2), generator=generator(1)).float()
        images = torch.rand(6, 3, height, width, generator=generator(2))
        for kind, at in (("any", boxes), ("whole pixels", whole)):
            for grid in (None, resolution):
                name = f"{size}, {kind}, {'no' if grid is None else 'a'} resolution"
                record[name] = _crops_and_gradient(images, at, grid)
        record[f"{size}, float64"] = _crops_and_gradient(images.double(), boxes, resolution)
        record[f"{size}, bfloat16"] = digest([crop_resize(images.bfloat16(), boxes, 24)])
        last = images.to(memory_format=torch.channels_last)
        crops = crop_resize(last, boxes, 24, resolution)
        record[f"{size}, channels_last"] = digest([crops, crops.stride()])
    return record


def _crops_and_gradient(images: Tensor, boxes: Tensor, resolution: Tensor | None) -> str:
    images = images.clone().requires_grad_()
    crops = crop_resize(images, boxes, 24, resolution)
    crops.square().sum().backward()
    return digest([crops, images.grad])


def image_crops() -> Record:
    """Crops and boxes of ImageCrops on PIL images and tensors, with its own colours or without."""
    record = {}
    normalize = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    kinds: dict[str, Any] = {
        "default": ImageCrops(),
        "normalized, 64 px views": ImageCrops(None, normalize, None, 0.5, 64),
        "always flipped": ImageCrops(sp_config(source="image", crop_size=24), None, None, 1.0),
        "native": ImageCrops(
            sp_config(source="image", sharpness="native", crop_size=24, num_crops=2),
            normalize, v2.Identity(), 0.5, 48,
        ),
    }  # fmt: skip
    for name, crops in kinds.items():
        for kind in ("PIL", "uint8", "float"):
            seed_all(0)
            made = []
            for index, size in enumerate(((64, 48), (90, 120), (40, 40))):
                image: Any = pil_image(index, *size)
                if kind != "PIL":
                    image = v2.functional.pil_to_tensor(image)
                    image = image / 255 if kind == "float" else image
                sample = crops(image)
                made += [sample[key] for key in IMAGE_SAMPLE]
                torch.rand(1)  # the next image finds the generator in another state
            record[f"{name}, {kind}"] = digest([*made, digest_of_generators()])
    return record


def lightly_transforms() -> dict[str, Any]:
    """Transforms of lightly, with flips of both kinds."""
    return {
        "dino": lightly.transforms.DINOTransform(
            global_crop_size=48, local_crop_size=24, vf_prob=0.3
        ),
        "simclr": lightly.transforms.SimCLRTransform(input_size=32, vf_prob=0.3),
    }


def view_boxes() -> Record:
    """Boxes and flips of the views of lightly's transforms on PIL images, and the views."""
    record = {}
    for name, transform in lightly_transforms().items():
        seed_all(0)
        tracked = ViewBoxTransform(transform)
        samples = [tracked(pil_image(index, 96, 72)) for index in range(6)]
        for key in VIEW_BOXES:
            record[f"{name} {key}"] = digest(sample["sp"][key] for sample in samples)
        record[f"{name} views"] = digest(view for sample in samples for view in sample["views"])
        record[f"{name} generators"] = digest_of_generators()
    return record


def transform_with_crops() -> Record:
    """Views and crops of SPTransform around lightly's transforms on PIL images."""
    record = {}
    for name, transform in lightly_transforms().items():
        seed_all(0)
        both = SPTransform(transform)
        samples = [both(pil_image(index, 96, 72)) for index in range(4)]
        for key in IMAGE_SAMPLE:
            record[f"{name} {key}"] = digest(sample["sp"][key] for sample in samples)
        record[f"{name} views"] = digest(view for sample in samples for view in sample["views"])
        record[f"{name} generators"] = digest_of_generators()
    return record


# --- Training runs with MMSelfSup -------------------------------------------------------------


def mm_run(method: str, source: str) -> Record:
    """A shipped config of MMSelfSup, made small, with SPAlgorithm: two epochs of three steps."""
    tools = mm_tools()
    sp = {"warmup_fraction": 0.0, "source": source, "sample_fraction": 1.0}
    seed_all(0)
    with tempfile.TemporaryDirectory() as place:
        data = tools.make_images(Path(place) / "data", 6)
        config = tools.small_config("mmselfsup", method, data, Path(place) / "work")
        # Runner writes the config to disk; formatting it takes longer than the training.
        config = type(config)(config.to_dict(), format_python_code=False)
        config.train_cfg.max_epochs = 2
        config.optim_wrapper.accumulative_counts = 1
        config.log_level = "ERROR"
        if method == "byol":
            _narrow(config.model)
        if source == "image":
            dataset = config.train_dataloader.dataset
            dataset.pipeline = [
                {"type": tools.crops_transform, "pipeline": dataset.pipeline, "sp": sp}
            ]
        if source == "host_views":
            tools.add_view_boxes(config)
        with Recorder().recording() as recorder, _own_visualizer():
            runner = tools.train(tools.add_sp(config, **sp))
    logged = {}
    for name in (*METRIC_NAMES, "scaled_loss"):
        history = runner.message_hub.log_scalars[f"train/{mm_log_key(name)}"]
        logged[f"logged {name}"] = hexadecimal(history.data[0])
    state = tools.without_sp(tools.model_of(runner).state_dict())
    return {**recorder.record(state), **logged}


def _narrow(model: Any) -> None:
    """A narrow ResNet-18 with small projector and predictor in the place of BYOL's."""
    model.backbone.update(depth=18, stem_channels=16, base_channels=16, norm_cfg={"type": "BN"})
    model.neck.update(in_channels=128, hid_channels=64, out_channels=32, norm_cfg={"type": "BN1d"})
    model.head.predictor.update(in_channels=32, hid_channels=64, out_channels=32)
    model.head.predictor.norm_cfg = {"type": "BN1d"}


@contextlib.contextmanager
def _own_visualizer() -> Iterator[None]:
    """Remove MMEngine's visualizers afterwards: each keeps the folder of the run that made it."""
    from mmengine.visualization import Visualizer

    try:
        yield
    finally:
        for cls in (Visualizer, *Visualizer.__subclasses__()):
            cls._instance_dict.clear()


# --- Cases ------------------------------------------------------------------------------------

_LIGHTNING = {  # name: method, backbone, source
    "simclr-view": ("simclr", "tiny_resnet", "view"),
    "simclr-image": ("simclr", "small_resnet", "image"),
    "simclr-host_views": ("simclr", "small_resnet", "host_views"),
    "byol-view": ("byol", "small_resnet", "view"),
    "byol-image": ("byol", "small_resnet", "image"),
    "byol-host_views": ("byol", "small_resnet", "host_views"),
    # MAE with host_views is refused: it encodes masked views.
    "mae-view": ("mae", "tiny_vit", "view"),
    "mae-image": ("mae", "small_vit", "image"),
    # Multi-crop: pairs are of the local views.
    "dino-host_views": ("dino", "small_resnet", "host_views"),
}
_MM = {  # name: algorithm, source
    "mm-byol-view": ("byol", "view"),
    "mm-byol-image": ("byol", "image"),
    "mm-byol-host_views": ("byol", "host_views"),
    "mm-mae-view": ("mae", "view"),
}
CASES: dict[str, Callable[[], Record]] = {
    "resolved-settings": resolved_settings,
    "sampled-boxes": sampled_boxes,
    "target-constants": target_constants,
    "resized-crops": resized_crops,
    "image-crops": image_crops,
    "view-boxes": view_boxes,
    "transform-with-crops": transform_with_crops,
    **{f"plain-{name}": functools.partial(plain_run, **how) for name, how in PLAIN.items()},
    **{
        name: functools.partial(lightning_run, method, backbone, source=source)
        for name, (method, backbone, source) in _LIGHTNING.items()
    },
    **{
        name: functools.partial(mm_run, method, source=source)
        for name, (method, source) in _MM.items()
    },
}


def needs_mm(case: str) -> bool:
    """Whether a case needs MMSelfSup."""
    return case in _MM


def run_case(case: str) -> Record:
    """Compute one case on a single thread, whatever ran before in this process."""
    threads, generators = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        return CASES[case]()
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(generators)


# --- Platform, comparison and command line ----------------------------------------------------


def current_platform() -> dict[str, str]:
    """What the digests depend on besides the code: versions of packages, and the CPU."""
    return {
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu": _cpu_name(),
    }


def _cpu_name() -> str:
    """The CPU's model name, with its family and model number where Linux says them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    entries = {key.strip(): value.strip() for key, _, value in (li.partition(":") for li in lines)}
    name = entries.get("model name", platform.processor())
    return f"{name}, family {entries.get('cpu family', '?')}, model {entries.get('model', '?')}"


def platform_differences(recorded: dict[str, str]) -> list[str]:
    """One entry for each part of the platform that differs from the recorded one."""
    now = current_platform()
    return [
        f"{key}: recorded {value!r}, here {now.get(key)!r}"
        for key, value in recorded.items()
        if now.get(key) != value
    ]


def differences(recorded: Record, computed: Record) -> list[str]:
    """One line for each field that differs; of metrics with the first step at which it does."""
    lines = []
    for field in {**recorded, **computed}:
        if field not in recorded or field not in computed:
            lines.append(f"{field}: only in {'computed' if field in computed else 'recorded'}")
        elif recorded[field] != computed[field]:
            lines.append(f"{field}: {_difference(recorded[field], computed[field])}")
    return lines


def _difference(recorded: str, computed: str) -> str:
    before, after = recorded.split(), computed.split()
    if len(before) != len(after):
        return f"recorded {len(before)} values, computed {len(after)}"
    first = next(n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
    at = f"first at step {first}: " if len(before) > 1 else ""
    return f"{at}recorded {before[first]}, computed {after[first]}"


def main() -> int:
    """Record the digests, or compare them; 1 if a case differs."""
    parser = argparse.ArgumentParser(description="Digests of what the plug-in computes.")
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--out", type=Path, help="file to record the digests in")
    todo.add_argument("--compare", type=Path, help="file of digests to compare with")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help="these cases")
    options = parser.parse_args()
    for name in ("pytorch_lightning", "lightning.pytorch", "sp_plugin"):
        logging.getLogger(name).setLevel(logging.ERROR)
    print(f"sp_plugin from {Path(sys.modules['sp_plugin'].__file__ or '').parent}")
    computed = {}
    for case in options.only or CASES:
        start = time.perf_counter()
        computed[case] = run_case(case)
        print(f"{case:40} {time.perf_counter() - start:5.1f} s", flush=True)
    if options.out:
        content = {"platform": current_platform(), "cases": computed}
        options.out.write_text(json.dumps(content, indent=1) + "\n")
        return 0
    return _compare(json.loads(options.compare.read_text()), computed, bool(options.only))


def _compare(recorded: dict[str, Any], computed: dict[str, Record], partial: bool) -> int:
    for line in platform_differences(recorded["platform"]):
        print(f"another platform, digests may differ: {line}")
    cases = computed if partial else {**recorded["cases"], **computed}
    differ = 0
    for case in cases:
        lines = differences(recorded["cases"].get(case, {}), computed.get(case, {}))
        if lines:
            differ += 1
            print(f"DIFFERS {case}", *lines, sep="\n    ")
    print(f"{differ} of {len(cases)} cases differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
