"""Spatial Prediction in stable-pretraining: its SimCLR, and one callback.

In a separate environment (it needs a newer Lightning than solo-learn pins):
pip install sp-plugin stable-pretraining torchvision
python examples/stable_pretraining_simclr.py FOLDER [weight of SP, 0.5 by default; 0: baseline]
"""

import sys

import lightning.pytorch as pl
import stable_pretraining as spt
import torch
from sp_lightning import SPCallback
from stable_pretraining.forward import simclr
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

SIDE, BATCH, EPOCHS = 64, 64, 10

view = T.Compose([
    T.RandomResizedCrop(SIDE, scale=(0.2, 1)),
    T.RandomHorizontalFlip(),
    T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
    T.RandomGrayscale(p=0.2),
    T.ToTensor(),
])  # fmt: skip


class Views(ImageFolder):
    def __getitem__(self, index: int) -> dict:
        image, label = super().__getitem__(index)
        return {"views": [{"image": view(image), "label": label} for _ in range(2)]}


def main(folder: str, weight: float = 0.5) -> None:
    pl.seed_everything(0)
    backbone = spt.backbone.from_torchvision("resnet18", low_resolution=True)
    backbone.fc = torch.nn.Identity()
    module = spt.Module(
        forward=simclr,
        backbone=backbone,
        projector=torch.nn.Sequential(
            torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 128)
        ),
        simclr_loss=spt.losses.NTXEntLoss(temperature=0.2),
        optim={"optimizer": {"type": "AdamW", "lr": 1e-3}},
    )
    loader = torch.utils.data.DataLoader(Views(folder), BATCH, shuffle=True, drop_last=True)
    callback = SPCallback(weight=weight)  # all that SP needs
    pl.Trainer(max_epochs=EPOCHS, callbacks=[callback]).fit(module, loader)
    print({k: round(float(v), 3) for k, v in module.trainer.callback_metrics.items()})


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
