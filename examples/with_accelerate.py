"""Spatial Prediction in a loop with Hugging Face's accelerate: SimCLR on an image folder.

accelerate launch examples/with_accelerate.py FOLDER [weight of SP; 0 is the baseline]
"""

import sys

import simclr
import torch
from accelerate import Accelerator
from torch import nn

from sp_plugin import SPSession


def main(folder: str, weight: float = 0.5, **options) -> tuple[nn.Module, SPSession]:
    accelerator = Accelerator(**options)  # mixed_precision="bf16", for example
    torch.manual_seed(0)
    model = simclr.ContrastiveModel().to(accelerator.device)
    loader = simclr.make_loader(folder)

    sp = SPSession(model.backbone, weight=weight)
    optimizer = torch.optim.AdamW([*model.parameters(), *sp.parameters()], 1e-3)
    accelerator.register_for_checkpointing(sp)  # save_state and load_state
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    for epoch in range(simclr.EPOCHS):
        for step, ((a, b), _) in enumerate(loader):
            with accelerator.accumulate(wrapped):
                with accelerator.autocast():
                    out = sp(a, progress=(epoch + step / len(loader)) / simclr.EPOCHS)
                accelerator.backward(wrapped(a, b) + out.loss)
                optimizer.step()
                optimizer.zero_grad()
        accelerator.print(f"epoch {epoch}: SP {out.metrics['loss']:.3f}")
    return model, sp


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
