"""Configs that the frameworks ship, made small enough to train for a few steps on a CPU.

Only the data, the size of the views, the length of memories and the length of training change.
The algorithm, its backbone, its optimizer and its hooks are those of the shipped config, except
what `mm_stand_ins` replaces.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mm_stand_ins import as_one_rank, stand_in
from mmengine.config import Config, ConfigDict
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from PIL import Image

STEPS = 3

# Algorithms that the tests in CI train: the shipped config, and changes to its model (smaller
# transformers).
_TINY_VIT = {
    "_delete_": True,  # the shipped one is a name
    "embed_dims": 48,
    "num_layers": 2,
    "num_heads": 4,
    "feedforward_channels": 96,
}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "simclr": ("simclr/simclr_resnet50_8xb32-coslr-200e_in1k.py", {}),
    "byol": ("byol/byol_resnet50_8xb32-accum16-coslr-200e_in1k.py", {}),
    "swav": ("swav/swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py", {}),
    "mocov3": (
        "mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py",
        {
            "backbone": {"arch": _TINY_VIT},
            "neck": {"in_channels": 48, "hid_channels": 64, "out_channels": 32},
            "head": {"predictor": {"in_channels": 32, "hid_channels": 64, "out_channels": 32}},
        },
    ),
    "mae": (
        "mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py",
        {
            "backbone": {"arch": _TINY_VIT, "drop_path_rate": 0.5},
            "neck": {"embed_dim": 48, "decoder_embed_dim": 32, "decoder_depth": 1},
        },
    ),
    "simmim": (
        "simmim/simmim_swin-base_16xb128-amp-coslr-100e_in1k-192.py",
        {
            "backbone": {
                "arch": {
                    "_delete_": True,
                    "embed_dims": 16,
                    "depths": [1, 1, 1, 1],
                    "num_heads": [1, 2, 4, 8],
                },
                "drop_path_rate": 0.5,
            },
            "neck": {"in_channels": 128},
        },
    ),
}
_NARROW = {224: 64, 96: 48}  # views of convolutional backbones, which take any size
_SIZES = ("size", "scale", "crop_size")
_run_number = itertools.count()
_SHORT = {"length": 6, "neg_num": 8, "queue_len": 64}


def make_images(folder: Path, count: int) -> Path:
    """A folder with ``count`` images of two classes, the same each time."""
    rng = np.random.default_rng(0)
    names = []
    for index in range(count):
        name = f"class{index % 2}/{index}.png"
        (folder / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((320, 256), Image.Resampling.BICUBIC).save(folder / "train" / name)
        names.append(f"{name} {index % 2}\n")
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta" / "train.txt").write_text("".join(names))
    return folder


def shipped(framework: str, name: str) -> Config:
    """A config that the installed framework ships."""
    spec = importlib.util.find_spec(framework)
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / ".mim" / "configs"
    return Config.fromfile(folder / ("selfsup" if framework == "mmselfsup" else "") / name)


def small(framework: str, name: str, data: Path, work: Path) -> Config:
    """Small config of one of `SMALL`."""
    path, changes = SMALL[name]
    config = shipped(framework, path)
    config.merge_from_dict({"model": copy.deepcopy(changes)})
    return shrink(config, data, work)


def shrink(config: Config, data: Path, work: Path, batch: int = 2) -> Config:
    """The config with a tiny data set, one epoch, no workers and no downloads."""
    config.work_dir = str(work)
    config.experiment_name = f"{work.name}-{next(_run_number)}"  # names the message hub
    config.randomness = {"seed": 0}
    config.train_cfg = {"by_epoch": True, "max_epochs": 1}
    config.default_hooks.logger = {"type": "LoggerHook", "interval": 1}
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": -1, "save_last": False}
    model = config.model.get("algorithm", config.model)
    narrow = model.backbone.type.startswith("ResNet")
    for settings in _dicts(config._cfg_dict):
        _shrink_one(settings, data, batch, narrow)
    if config.optim_wrapper.type == "AmpOptimWrapper":  # cannot be built without a GPU
        config.optim_wrapper.type = "OptimWrapper"
        config.optim_wrapper.pop("loss_scale", None)
        config.optim_wrapper.pop("dtype", None)
    if model.type == "ODC":
        as_one_rank(config, model, clusters=_SHORT["length"])
    return config


def model_of(runner: Runner) -> torch.nn.Module:
    """The Runner's model, without a wrapper."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def _shrink_one(settings: Any, data: Path, batch: int, narrow: bool) -> None:
    if "data_root" in settings and "type" in settings:
        prefix = {"img_path": "train/"} if "data_prefix" in settings else "train"
        settings.update(data_root=str(data), ann_file="meta/train.txt", data_prefix=prefix)
    if "sampler" in settings and "dataset" in settings:
        settings.update(batch_size=batch, num_workers=0, persistent_workers=False)
    if settings.get("type") == "SwAVHook":
        settings.update(batch_size=batch)
    settings.update({key: short for key, short in _SHORT.items() if key in settings})
    if narrow:
        for key in _SIZES:
            if isinstance(settings.get(key), int):
                settings[key] = _NARROW.get(settings[key], settings[key])
    stand_in(settings)


def _dicts(value: Any) -> Iterator[Any]:
    """All dicts in a config, outer ones first."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _dicts(item)


def with_sp(config: Config, **settings: Any) -> Config:
    """The baseline's config with SP, as the three lines of a user's config make it."""
    config.model = ConfigDict(type="SPAlgorithm", algorithm=config.model, sp=settings)
    return config


def with_views(config: Config) -> None:
    """Wrap the baseline's pipeline in SPViewBoxes."""
    dataset = config.train_dataloader.dataset
    dataset.pipeline = [{"type": "SPViewBoxes", "pipeline": dataset.pipeline}]


def trained(config: Config, sp_hook: Any = None) -> Runner:
    """The Runner after training. A baseline needs the patches too.

    Args:
        config: config of the run.
        sp_hook: forward hook for SP's module, if there is one.
    """
    from sp_mmselfsup.patch_list import apply_patches

    runner = Runner.from_cfg(config)
    model = model_of(runner)
    apply_patches(model)
    if sp_hook is not None and hasattr(model, "sp"):
        model.sp.register_forward_hook(sp_hook)
    runner.train()
    return runner


def without_sp(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("sp.")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)
