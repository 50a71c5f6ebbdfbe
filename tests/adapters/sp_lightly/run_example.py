"""Runs one of lightly's example files, unedited, small enough for a CPU: FILE OUT MODE [LAYER].

What is put in its way are the downloads (its data sets become images made here), the size of
its batches, and a Trainer that stops after two steps and, by MODE, has an SPCallback.
"""

import runpy
import sys

import numpy as np
import pytorch_lightning as pl
import torch
import torchvision
from PIL import Image
from sp_lightning import SPCallback
from torchvision.datasets import VisionDataset

path, out, mode, *layer = sys.argv[1:]


class SyntheticImages(VisionDataset):
    def __init__(self, root, download=False, transform=None, target_transform=None, **_):
        super().__init__(root, transform=transform, target_transform=target_transform)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        coarse = np.random.default_rng(index).integers(0, 255, (8, 8, 3), np.uint8)
        side = 32 if isinstance(self, SyntheticCifar) else 160
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        return self.transforms(image, index) if self.transforms else (image, index)


class SyntheticCifar(SyntheticImages):
    pass


class SmallBatchLoader(torch.utils.data.DataLoader):
    def __init__(self, dataset, batch_size=1, num_workers=0, **more):
        super().__init__(dataset, batch_size=min(batch_size, 4), **more)


callbacks = {
    "off": [],
    "on": [SPCallback(weight=1, warmup_fraction=0)],
    "image": [SPCallback(weight=1, warmup_fraction=0, source="image")],
    "host": [
        SPCallback(
            weight=1, warmup_fraction=0, source="host_views", layer=layer[0] if layer else None
        )
    ],
    "zero": [SPCallback(weight=0, source="image")],
}[mode]


class Trainer(pl.Trainer):
    def __init__(self, **options):
        quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
        options.update(dict.fromkeys(quiet, False), max_epochs=1, limit_train_batches=2)
        super().__init__(**options, callbacks=callbacks)


torchvision.datasets.CIFAR10, torchvision.datasets.VOCDetection = SyntheticCifar, SyntheticImages
torch.utils.data.DataLoader, pl.Trainer = SmallBatchLoader, Trainer
pl.seed_everything(0)
torch.set_num_threads(1)
module = runpy.run_path(path, run_name="__main__")["model"]
saved = {"state": module.state_dict()}
if callbacks:
    saved["sp"], saved["width"] = callbacks[0].sp.state_dict(), callbacks[0].sp.feature_dim
    saved["steps"], saved["student"] = callbacks[0].step, callbacks[0].backbone_name
torch.save(saved, out)
