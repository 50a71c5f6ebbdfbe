"""The code blocks of README and docs, and what a block of Python finds there to run with.

``python code_blocks.py PAGE WORDS`` runs the Python block of a page that has these words.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = sorted(["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line it starts in, its language ("" if none) and text."""

    page: str
    line: int
    language: str
    text: str

    def has(self, words: str) -> bool:
        """Whether it contains these words, or starts with them if they start with "^"."""
        return self.text.startswith(words[1:]) if words[:1] == "^" else words in self.text

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """All code blocks of a page, in their order, without directives of Sphinx."""
    text = (ROOT / page).read_text()
    found = re.finditer(r"^```(\S*)[^\n]*\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [
        Block(page, text[: at.start()].count("\n") + 1, at[1], at[2])
        for at in found
        if not at[1].startswith("{")
    ]


def block(page: str, words: str) -> Block:
    """The one block of a page, but for output and listings, that has these words."""
    found = [one for one in blocks(page) if one.language != "text" and one.has(words)]
    assert len(found) == 1, f"{page}: {len(found)} blocks with {words!r}"
    return found[0]


def plain_loop() -> dict[str, Any]:
    """A method, a loader and an optimizer, as a loop of one's own has them."""
    import torch
    from torch import nn

    backbone = nn.Conv2d(3, 16, 3)
    return {
        "torch": torch,
        "device": "cpu",
        "backbone": backbone,
        "loader": [torch.rand(4, 3, 32, 32) for _ in range(4)],
        "optimizer": torch.optim.SGD(backbone.parameters(), lr=0.1),
        "method": lambda images: backbone(images).mean(),
        "steps": 4,
    }


def lightning_run() -> dict[str, Any]:
    """A Trainer that makes one step, and what blocks of Lightning's page take."""
    import functools

    from pytorch_lightning import Trainer
    from sp_lightning import SPCallback

    small = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    return {
        "Trainer": functools.partial(Trainer, fast_dev_run=True, **small),
        "SPCallback": SPCallback,
    }


def hugging_face_trainer() -> dict[str, Any]:
    """A model, arguments and data for a Trainer of Hugging Face."""
    import hf_trainer

    return hf_trainer.names(Path("out"))


def main(page: str, words: str) -> None:
    programs = {"SPSession": plain_loop, "SPTrainer": hugging_face_trainer}
    program = next((made for name, made in programs.items() if name in words), lightning_run)
    exec(block(page, words).text, program())


if __name__ == "__main__":
    main(*sys.argv[1:])
