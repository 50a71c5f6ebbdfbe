"""Settings of a speed measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sp_bench.config import fast_precision
from sp_bench.errors import UsageError
from sp_plugin.validation import did_you_mean

PARTS = ("steps", "crops", "data", "peers", "k")
_DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class SpeedSettings:
    """Everything that decides what is timed, and how often.

    Attributes:
        only: which parts, of ``PARTS``.
        repeats: turns of each arm.
        quick: tiny nets and images, to see that everything runs; its figures say nothing.
        device: ``auto`` takes a GPU where there is one.
        data: a folder of photographs for the part ``data``; None: JPEGs of the demo's images.

    Raises:
        UsageError: one line that says what a setting takes.

    >>> SpeedSettings(only=("k",), device="cpu").command
    'sp-bench speed --only k --repeats 6 --device cpu'
    """

    only: tuple[str, ...] = PARTS
    repeats: int = 6
    quick: bool = False
    device: str = "auto"
    data: Path | None = None

    def __post_init__(self) -> None:
        for part in self.only:
            if part not in PARTS:
                raise UsageError(f"only: no {part!r}; {did_you_mean(part, PARTS)}")
        if not self.only:
            raise UsageError(f"only: got nothing, takes some of {', '.join(PARTS)}")
        if self.repeats < 1:
            raise UsageError(f"repeats: got {self.repeats}, takes a whole number from 1 up")
        if self.device not in _DEVICES:
            raise UsageError(f"device: got {self.device!r}, takes one of {', '.join(_DEVICES)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("device: got 'cuda', but torch finds no GPU; takes cpu")
        if self.device == "auto":
            found = "cuda" if torch.cuda.is_available() else "cpu"
            object.__setattr__(self, "device", found)

    @property
    def target(self) -> torch.device:
        """The device, as torch has it."""
        return torch.device(self.device)

    @property
    def precision(self) -> str:
        """Of the steps, as Lightning names it: float32 on a CPU, what is fast on a GPU."""
        return fast_precision() if self.device == "cuda" else "32-true"

    @property
    def command(self) -> str:
        """What was asked, without where the results went."""
        words = ["sp-bench speed", f"--only {','.join(self.only)}", f"--repeats {self.repeats}"]
        words += [f"--device {self.device}"] + ["--quick"] * self.quick
        return " ".join(words + ([f"--data {self.data.name}"] if self.data else []))

    def plain(self) -> dict[str, Any]:
        """As it stands in JSON; of a folder its name alone."""
        return {
            "only": list(self.only),
            "repeats": self.repeats,
            "quick": self.quick,
            "device": self.device,
            "data": self.data.name if self.data else None,
        }
