"""The real solo-learn, from a checkout: its own scripts in processes of their own."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from sp_plugin import SpatialPrediction, SPConfig

# Scripts, and what is put on the path of their processes.
collect_ignore = ["bands.py", "compose.py", "no_gpu", "reseed"]

# Where a method's file has another name; ``base`` has none.
_FILE = {"barlow_twins": "barlow", "base": "simclr"}
# Whitening wants more images than features, and the batch is small here.
_NEEDS = {
    "wmse": (
        "++method_kwargs.whitening_size=16", "++method_kwargs.proj_output_dim=8",
        "++method_kwargs.whitening_iters=1",
    ),
}  # fmt: skip
_VIT = (
    "++backbone.name=vit_tiny", "+backbone.kwargs.img_size=32", "+backbone.kwargs.patch_size=8",
    "++data.val_path=null",  # solo-learn validates at 224 px, which a ViT of 32 px refuses
    "++optimizer.name=adamw",
)  # fmt: skip
# MAE's own file has a ViT and AdamW already.
_MAE = ("++backbone.name=vit_tiny", "++data.val_path=null", "++method_kwargs.decoder_depth=1")

INSTALL_HINT = (
    "needs solo-learn: git clone https://github.com/vturrisi/solo-learn, then "
    "SOLO_LEARN=/path/to/solo-learn make test"
)


def checkout() -> Path | None:
    """The folder with main_pretrain.py: ``$SOLO_LEARN``, or of an editable install."""
    places = [Path(checkout).resolve()] if (checkout := os.environ.get("SOLO_LEARN")) else []
    spec = importlib.util.find_spec("solo")
    if spec and spec.submodule_search_locations:
        places.append(Path(next(iter(spec.submodule_search_locations))).parent)
    return next((place for place in places if (place / "main_pretrain.py").is_file()), None)


def make_image_folder(root: Path) -> Path:
    """A tiny image folder: 5 classes (solo-learn's top-5 wants them), 40 to train on, 20 more."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for label in range(5):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                coarse = random.integers(0, 255, (8, 10, 3), np.uint8)
                image = Image.fromarray(coarse).resize((80, 64), Image.Resampling.BICUBIC)
                image.save(folder / f"{i}.png")
    return root


@dataclass
class Run:
    """What a finished run left behind."""

    folder: Path
    output: str
    checkpoint: Path
    saved: dict[str, Any] = field(repr=False)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return self.saved["state_dict"]

    @property
    def sp(self) -> dict[str, Any]:
        return self.saved.get("callbacks", {}).get("SPCallback", {})

    def unmoved_parameters(self) -> list[str]:
        """Parameters of SP's head that are what they were before the first step."""
        head = {k: v for k, v in self.sp["sp"].items() if k.startswith("head.")}
        width = head["head.norm.weight"].shape[0]
        fresh = SpatialPrediction(width, SPConfig.from_dict(self.sp["config"])).state_dict()
        return [key for key, value in head.items() if torch.equal(value, fresh[key])]

    @property
    def arguments(self) -> dict[str, Any]:
        return json.loads((self.checkpoint.parent / "args.json").read_text())

    def same(self, other: Run) -> bool:
        """Whether weights and buffers are identical, bit for bit."""
        a, b = self.state, other.state
        return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every figure that Lightning's own logger wrote."""
        last: dict[str, float] = {}
        for path in sorted(self.folder.glob("lightning_logs/*/metrics.csv")):
            for row in csv.DictReader(path.open()):
                last.update({key: float(value) for key, value in row.items() if value})
        # Where TensorBoard is installed, Lightning writes for it and not in CSV.
        for path in sorted(self.folder.glob("lightning_logs/*/events.*")):
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

            events = EventAccumulator(str(path)).Reload()
            last |= {key: events.Scalars(key)[-1].value for key in events.Tags()["scalars"]}
        return last


class Solo:
    """Runs solo-learn's scripts, unmodified."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.data = root, data

    def script(
        self, name: str, arguments: list[str], cwd: Path, *paths: Path, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        cwd.mkdir(parents=True, exist_ok=True)
        places = [str(path) for path in paths] + [os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "HOME": str(cwd),  # where its H5 data set leaves an index
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, places)),
            "PYTHONWARNINGS": "ignore",
            "WANDB_MODE": "offline",
        }
        ran = subprocess.run(
            [sys.executable, str(self.root / name), *arguments],
            cwd=cwd, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if check and ran.returncode:
            raise AssertionError(f"{name} failed:\n{ran.stdout[-1500:]}\n{ran.stderr[-3000:]}")
        return ran

    def pretrain(
        self,
        cwd: Path,
        method: str,
        kind: str = "resnet18",
        *more: str,
        paths: tuple[Path, ...] = (),
        epoch: int | None = None,
    ) -> Run:
        arguments = [*self.command(cwd, method, kind), *more]
        ran = self.script("main_pretrain.py", arguments, cwd, *paths)
        pattern = "**/*.ckpt" if epoch is None else f"**/*ep={epoch}.ckpt"
        checkpoint = max(cwd.glob(pattern), key=lambda path: path.stat().st_mtime)
        saved = self.load(checkpoint)
        return Run(cwd, ran.stdout + ran.stderr, checkpoint, saved)

    def load(self, checkpoint: Path) -> dict[str, Any]:
        """As main_linear.py does, with torch's default, where that takes the baseline's at all.

        simsiam's, nnsiam's and nnbyol's schedulers hold a function of solo/methods/base.py.
        """
        try:
            return torch.load(checkpoint, map_location="cpu")
        except pickle.UnpicklingError as error:
            assert "functools.partial" in str(error)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(self.root)
            return torch.load(checkpoint, map_location="cpu", weights_only=False)

    def command(self, cwd: Path, method: str, kind: str) -> list[str]:
        """The usual command for a method and one of ``KINDS``, made small enough for a CPU."""
        name = _FILE.get(method, method)
        folder = self.root / "scripts" / "pretrain"
        own = OmegaConf.load(folder / "cifar" / f"{name}.yaml")
        # AdamW takes none of LARS's and SGD's arguments.
        adamw = ("~optimizer.kwargs",) if "kwargs" in own.optimizer else ()
        kinds = {"resnet18": (), "vit_tiny": (*_VIT, *adamw), "multi_crop": ("augmentations=swav",)}
        return [
            "--config-path", str(folder / "cifar"), "--config-name", f"{name}.yaml",
            "--config-dir", str(folder / "cifar-multicrop"),  # for its augmentations
            "++data.dataset=custom", f"++data.train_path={self.data}/train",
            f"++data.val_path={self.data}/val", "++data.num_workers=0",
            "++optimizer.batch_size=16", "++max_epochs=1", "++accelerator=cpu", "++devices='1'",
            "++strategy=auto", "++precision=32", "++sync_batchnorm=false",
            "++limit_train_batches=2", "++limit_val_batches=1", "++wandb.enabled=false",
            "++auto_resume.enabled=false", f"++checkpoint.dir={cwd}/trained",
            "+enable_progress_bar=false", f"++method={method}",
            *(_MAE if method == "mae" else kinds[kind]), *_NEEDS.get(method, ()),
        ]  # fmt: skip


@pytest.fixture(scope="session")
def solo(tmp_path_factory: pytest.TempPathFactory) -> Solo:
    root = checkout()
    if root is None:
        pytest.skip(INSTALL_HINT)
    return Solo(root, make_image_folder(tmp_path_factory.mktemp("images")))
