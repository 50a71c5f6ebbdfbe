"""Spatial Prediction in a loop with Lightning's Fabric: SimCLR on an image folder.

python examples/with_fabric.py FOLDER [weight of SP; 0 is the baseline]
"""

import sys

import simclr
import torch
from lightning_fabric import Fabric  # or: from lightning.fabric import Fabric
from torch import nn

from sp_plugin import SPSession


def main(folder: str, weight: float = 0.5, **options) -> tuple[nn.Module, SPSession]:
    fabric = Fabric(**options)  # precision="bf16-mixed", for example
    fabric.launch()
    torch.manual_seed(0)
    model = fabric.to_device(simclr.ContrastiveModel())
    loader = fabric.setup_dataloaders(simclr.make_loader(folder))

    sp = SPSession(model.backbone, weight=weight)
    optimizer = torch.optim.AdamW([*model.parameters(), *sp.parameters()], 1e-3)
    wrapped, optimizer = fabric.setup(model, optimizer)

    for epoch in range(simclr.EPOCHS):
        for step, ((a, b), _) in enumerate(loader):
            with fabric.autocast():
                out = sp(a, progress=(epoch + step / len(loader)) / simclr.EPOCHS)
            optimizer.zero_grad()
            fabric.backward(wrapped(a, b) + out.loss)
            optimizer.step()
        fabric.print(f"epoch {epoch}: SP {out.metrics['loss']:.3f}")
    return model, sp


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
