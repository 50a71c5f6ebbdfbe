"""Spatial Prediction with DistributedDataParallel alone: SimCLR on an image folder.

torchrun --nproc-per-node 2 examples/with_ddp.py FOLDER [weight of SP; 0 is the baseline]
"""

import os
import sys

import simclr
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

from sp_plugin import SPSession


def main(folder: str, weight: float = 0.5) -> tuple[nn.Module, SPSession]:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    distributed.init_process_group("nccl" if cuda else "gloo")
    torch.manual_seed(0)
    model = simclr.ContrastiveModel().to(device)
    loader = simclr.make_loader(folder, DistributedSampler)

    sp = SPSession(model.backbone, weight=weight)  # the backbone, not DDP round it
    optimizer = torch.optim.AdamW([*model.parameters(), *sp.parameters()], 1e-3)
    ddp = DistributedDataParallel(model)

    for epoch in range(simclr.EPOCHS):
        loader.sampler.set_epoch(epoch)
        for step, ((a, b), _) in enumerate(loader):
            a, b = a.to(device), b.to(device)
            out = sp(a, progress=(epoch + step / len(loader)) / simclr.EPOCHS)
            optimizer.zero_grad()
            (ddp(a, b) + out.loss).backward()
            optimizer.step()
        print(f"epoch {epoch}: SP {out.metrics['loss']:.3f}")
    return model, sp


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
    distributed.destroy_process_group()
