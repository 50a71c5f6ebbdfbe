"""Trains a method of solo-learn on images of other channels than RGB, with and without SP.

``python bands.py CONFIG_FOLDER CHANNELS ...``: a ViT gets ``in_chans``, a ResNet another first
convolution, as users do it. Prints a row for each as JSON.
"""

import json
import logging
import sys

import solo.methods
import sp_solo
import torch
from hydra import compose, initialize_config_dir
from lightning import Trainer, seed_everything
from omegaconf import OmegaConf
from solo.args.pretrain import parse_cfg
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
sp_solo.register()
SP = ("++sp.hidden_dim=8", "++sp.relative_weight=false", "++sp.warmup_fraction=0")
SMALL = (
    "++data.dataset=cifar10", "++data.train_path=.", "++max_epochs=1",
    "++optimizer.batch_size=4", "++wandb.enabled=false", "++auto_resume.enabled=false",
    "~optimizer.kwargs", "++optimizer.name=sgd",
)  # fmt: skip
VIT = ("++backbone.name=vit_tiny", "+backbone.kwargs.img_size=32", "+backbone.kwargs.patch_size=8")


class Bands(Dataset):
    """Samples as solo-learn's: index, views, target."""

    def __init__(self, channels):
        self.channels = channels
        self.transform = v2.RandomResizedCrop(32)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(self.channels, 40, 40, generator=generator)
        return index, [self.transform(image), self.transform(image)], index % 5


def train(folder, kind, channels, *overrides):
    vit = (*VIT, f"+backbone.kwargs.in_chans={channels}") if kind == "vit" else ()
    with initialize_config_dir(folder, version_base="1.2"):
        cfg = compose("simclr.yaml", overrides=[*SMALL, *vit, *overrides])
    OmegaConf.set_struct(cfg, False)
    cfg = parse_cfg(cfg)
    seed_everything(0)
    model = solo.methods.METHODS["simclr"](cfg)
    if kind == "resnet":
        model.backbone.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(model, DataLoader(Bands(channels), batch_size=4))
    sp = [one.sp for one in trainer.callbacks if type(one).__name__.startswith("SPCallback")]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    return state, sp[0].channels if sp else None


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


rows = {}
for kind in ("resnet", "vit"):
    for channels in map(int, sys.argv[2:]):
        baseline, _ = train(sys.argv[1], kind, channels)
        at_0, _ = train(sys.argv[1], kind, channels, "++sp.weight=0", *SP)
        with_sp, found = train(sys.argv[1], kind, channels, "++sp.weight=1", *SP)
        rows[f"{kind}-{channels}"] = [same(baseline, at_0), same(baseline, with_sp), found]
print(json.dumps(rows))
