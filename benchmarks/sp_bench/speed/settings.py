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
    """Everything that defines what is timed, and how often.

    Attributes:
        only: parts of the measurement, from ``PARTS``; default all.
        repeats: number of rounds per arm, default 6.
        quick: whether networks and images are tiny, as a smoke test without meaningful numbers.
        device: ``cpu``, ``cuda``, or ``auto`` (default): a GPU if there is one.
        data: folder of photographs for the part ``data``; None (default): JPEGs of the demo.

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
            device = "cuda" if torch.cuda.is_available() else "cpu"
            object.__setattr__(self, "device", device)

    @property
    def target(self) -> torch.device:
        """The device as torch's type."""
        return torch.device(self.device)

    @property
    def precision(self) -> str:
        """Lightning's precision of the steps: float32 on a CPU, the fast one on a GPU."""
        return fast_precision() if self.device == "cuda" else "32-true"

    @property
    def command(self) -> str:
        """The command line of this measurement, without its output folder."""
        words = ["sp-bench speed", f"--only {','.join(self.only)}", f"--repeats {self.repeats}"]
        words.append(f"--device {self.device}")
        if self.quick:
            words.append("--quick")
        if self.data:
            words.append(f"--data {self.data.name}")
        return " ".join(words)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, with the name of the folder instead of its path."""
        return {
            "only": list(self.only),
            "repeats": self.repeats,
            "quick": self.quick,
            "device": self.device,
            "data": self.data.name if self.data else None,
        }
