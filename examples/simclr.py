"""SimCLR on an image folder, as one module: for the loops with DDP, accelerate and Fabric."""

import torch
from plain_torch import BATCH, augment, nt_xent
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18


def make_loader(folder: str, sampler: type | None = None) -> DataLoader:
    data = ImageFolder(folder, lambda image: (augment(image), augment(image)))
    order = {"shuffle": True} if sampler is None else {"sampler": sampler(data)}
    return DataLoader(data, BATCH, drop_last=True, **order)


class ContrastiveModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = resnet18()
        self.backbone.fc = nn.Identity()
        self.projector = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        z = self.projector(self.backbone(torch.cat([a, b])))
        return nt_xent(*z.chunk(2))
