"""SimCLR on an image folder: the method and its data, for the loops in this folder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

SIDE, BATCH, EPOCHS = 64, 64, 10

augment = T.Compose([
    T.RandomResizedCrop(SIDE, scale=(0.2, 1)),
    T.RandomHorizontalFlip(),
    T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
    T.RandomGrayscale(p=0.2),
    T.ToTensor(),
    T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])  # fmt: skip


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

    def forward(self, a: Tensor, b: Tensor, temperature: float = 0.2) -> Tensor:
        z = F.normalize(self.projector(self.backbone(torch.cat([a, b]))), dim=1)
        similarity = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
        return F.cross_entropy(similarity, torch.arange(len(z), device=z.device).roll(len(a)))
