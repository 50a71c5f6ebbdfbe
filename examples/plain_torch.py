"""Spatial Prediction in a loop without any framework: SimCLR on an image folder.

python examples/plain_torch.py FOLDER [weight of SP, 0.5 by default; 0 is the baseline]
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from sp_plugin import SPSession

SIDE, BATCH, EPOCHS = 64, 64, 10

augment = T.Compose([
    T.RandomResizedCrop(SIDE, scale=(0.2, 1)),
    T.RandomHorizontalFlip(),
    T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
    T.RandomGrayscale(p=0.2),
    T.ToTensor(),
    T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])  # fmt: skip


def nt_xent(a: torch.Tensor, b: torch.Tensor, temperature: float = 0.2) -> torch.Tensor:
    z = F.normalize(torch.cat([a, b]), dim=1)
    similarity = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    return F.cross_entropy(similarity, torch.arange(len(z), device=z.device).roll(len(a)))


def main(folder: str, weight: float = 0.5) -> None:
    torch.manual_seed(0)
    data = ImageFolder(folder, lambda image: (augment(image), augment(image)))
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True)
    backbone = resnet18()
    backbone.fc = nn.Identity()
    model = nn.Sequential(backbone, nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    sp = SPSession(backbone, weight=weight)
    optimizer.add_param_group({"params": sp.parameters()})

    for epoch in range(EPOCHS):
        for step, ((a, b), _) in enumerate(loader):
            out = sp(a, progress=(epoch + step / len(loader)) / EPOCHS)
            loss = nt_xent(model(a), model(b))
            optimizer.zero_grad()
            (loss + out.loss).backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss:.3f}, SP {out.metrics['loss']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
