"""What the README shows must run as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

README = (Path(__file__).parents[1] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def block(word: str) -> str:
    """The Python block of the README that has this word in it."""
    (found,) = [text for text in PYTHON if word in text]
    return found


def test_own_loop_trains_backbone_and_head() -> None:
    backbone = nn.Conv2d(3, 16, 3)
    images = torch.rand(4, 3, 32, 32)

    def loader() -> Iterator[torch.Tensor]:
        for _ in range(4):
            yield images
            backbone.zero_grad()
            names["loss"].backward()

    names: dict[str, Any] = {
        "backbone": backbone,
        "images": images,
        "optimizer": torch.optim.SGD(backbone.parameters(), lr=0.1),
        "method": lambda images: backbone(images).mean(),
        "loader": loader(),
        "steps": 4,
    }
    exec(block("SPSession"), names)
    trained = {id(p) for group in names["optimizer"].param_groups for p in group["params"]}
    for parameter in [*backbone.parameters(), *names["sp"].parameters()]:
        assert id(parameter) in trained and parameter.grad.any()


def test_one_trainer_line_adds_sp() -> None:
    pytorch_lightning = pytest.importorskip("pytorch_lightning")
    names: dict[str, Any] = {"Trainer": pytorch_lightning.Trainer}
    exec(block("SPCallback"), names)
    assert any(type(callback).__name__ == "SPCallback" for callback in names["trainer"].callbacks)
