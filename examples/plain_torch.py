"""Spatial Prediction in a loop without any framework: SimCLR on an image folder.

python examples/plain_torch.py FOLDER [weight of SP, 0.5 if not given; 0 is the baseline]
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from sp_plugin import SpatialPrediction, SPConfig

SIDE, BATCH, EPOCHS = 64, 64, 10

view = T.Compose([
    T.RandomResizedCrop(SIDE, scale=(0.2, 1)),
    T.RandomHorizontalFlip(),
    T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
    T.RandomGrayscale(p=0.2),
    T.ToTensor(),
    T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])  # fmt: skip


def nt_xent(a: torch.Tensor, b: torch.Tensor, temperature: float = 0.2) -> torch.Tensor:
    z = F.normalize(torch.cat([a, b]), dim=1)
    likeness = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    return F.cross_entropy(likeness, torch.arange(len(z)).roll(len(a)))


def main(folder: str, weight: float = 0.5) -> None:
    torch.manual_seed(0)
    data = ImageFolder(folder, lambda image: (view(image), view(image)))
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True)
    backbone = resnet18()
    backbone.fc = nn.Identity()
    projector = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    optimizer = torch.optim.AdamW([*backbone.parameters(), *projector.parameters()], 1e-3)

    sp = SpatialPrediction.from_backbone(backbone, torch.rand(2, 3, SIDE, SIDE), SPConfig(weight))
    optimizer.add_param_group({"params": sp.parameters()})

    step, steps = 0, EPOCHS * len(loader)
    for epoch in range(EPOCHS):
        for (a, b), _ in loader:
            asked = sp(backbone, a, step=step, progress=step / steps)
            loss = nt_xent(projector(backbone(a)), projector(backbone(b)))
            optimizer.zero_grad()
            (loss + asked.loss).backward()
            optimizer.step()
            step += 1
        print(f"epoch {epoch}: loss {loss:.3f}, SP {asked.metrics['loss']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
