"""The last checkpoint in the folders of each framework."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sp_bench.checkpoints import find_checkpoint

LOGS = "lightning_logs/version_{}/checkpoints/{}"
# Files from the oldest to the newest ("a = b": at the same time), and the one that is the last.
FOLDERS = {
    "DINO": ("checkpoint0000.pth checkpoint0080.pth checkpoint.pth", "checkpoint.pth"),
    "DINO, copied": ("checkpoint.pth checkpoint0080.pth checkpoint0000.pth", "checkpoint0080.pth"),
    "MoCo": ("checkpoint_0009.pth.tar checkpoint_0010.pth.tar", "checkpoint_0010.pth.tar"),
    "Lightning": ("epoch=57-step=5800.ckpt last.ckpt", "last.ckpt"),
    "Lightning, copied": ("last.ckpt epoch=57-step=5800.ckpt", "epoch=57-step=5800.ckpt"),
    "Lightning, twice": ("epoch=57-step=5800.ckpt last.ckpt last-v1.ckpt", "last-v1.ckpt"),
    "Lightning, best": (
        "val_loss=0.31-epoch=60.ckpt val_loss=0.93-epoch=01.ckpt",
        "val_loss=0.31-epoch=60.ckpt",
    ),
    "Lightning, versions": (
        f"{LOGS.format(10, 'epoch=9.ckpt')} {LOGS.format(9, 'epoch=99.ckpt')}",
        LOGS.format(10, "epoch=9.ckpt"),
    ),
    "Lightning, steps": ("epoch=9-step=100.ckpt epoch=9-step=90.ckpt", "epoch=9-step=100.ckpt"),
    "timm": (
        "checkpoint-12.pth.tar model_best.pth.tar checkpoint-88.pth.tar last.pth.tar",
        "last.pth.tar",
    ),
    "timm, linked": ("checkpoint-12.pth.tar checkpoint-88.pth.tar = last.pth.tar", "last.pth.tar"),
    "timm, copied": (
        "last.pth.tar checkpoint-88.pth.tar checkpoint-100.pth.tar model_best.pth.tar",
        "checkpoint-100.pth.tar",
    ),
    "solo-learn": (
        "4x7ep3k9/simclr-epochs200-4x7ep3k9-ep=99.ckpt 4x7ep3k9/simclr-4x7ep3k9-ep=100.ckpt",
        "4x7ep3k9/simclr-4x7ep3k9-ep=100.ckpt",
    ),
    "MMEngine, iterations": ("iter_9000.pth iter_10000.pth iter_500.pth", "iter_10000.pth"),
    "an epoch before a step": (
        "epoch_2-global_step1000.pt step_5000-epoch_1.pt",
        "epoch_2-global_step1000.pt",
    ),
    "epochs of the folder": ("epoch-300/epoch_9.pt epoch-100/epoch_10.pt", "epoch-100/epoch_10.pt"),
    "a word that ends in ep": ("rep2/iter_10.pt rep1/iter_90.pt", "rep1/iter_90.pt"),
    "other numbers": ("net_9.pt net_10.pt", "net_10.pt"),
    "no numbers": ("last.ckpt best.ckpt", "last.ckpt"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_last_checkpoint_is_found(kind: str, tmp_path: Path) -> None:
    names, last = FOLDERS[kind]
    time, written = 1_000_000, names.split()
    for before, name in zip(["", *written], written, strict=False):
        if name == "=":
            continue
        time += before != "="
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        os.utime(file, (time, time))
    assert find_checkpoint(tmp_path) == tmp_path / last
