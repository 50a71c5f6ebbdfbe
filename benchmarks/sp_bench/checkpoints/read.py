"""Weights out of a checkpoint file, which is untrusted input."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sp_bench.errors import UsageError

TRUST_OPTION = "--trust-checkpoint"

# Where hosts keep the weights: Lightning, solo-learn and OpenMMLab in state_dict, timm's and MAE's
# own scripts in model, DINO's in student and teacher.
_PLACES = ("state_dict", "model_state_dict", "model", "model_ema", "student", "teacher")


def read_weights(path: Path, trust: bool = False) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name.

    Args:
        path: a file that torch saved, or of safetensors.
        trust: let the file run code of its own while it is read.

    Raises:
        UsageError: there is no such file, it holds no weights, or it takes ``trust``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": {"fc.bias": torch.ones(2)}}, f"{folder}/a.ckpt")
    ...     read_weights(Path(f"{folder}/a.ckpt"))
    {'fc.bias': tensor([1., 1.])}
    """
    if not path.is_file():
        what = "is a folder; takes a file" if path.is_dir() else "is not there"
        raise UsageError(f"checkpoint: {path} {what}")
    found = _tensors(_read(path, trust))
    if found:
        return found
    raise UsageError(f"checkpoint: {path} holds no weights")


def _read(path: Path, trust: bool) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:  # its own error is no subclass of another
            raise UsageError(f"checkpoint: {path} cannot be read: {_line(error)}") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        # Bytes that are no pickle are told as an operand that is not known.
        if trust or "Unsupported operand" in str(error) or "Weights only" not in str(error):
            raise UsageError(f"checkpoint: {path} cannot be read: {_line(error)}") from error
        raise UsageError(
            f"checkpoint: {path} holds more than weights, and to read it may run code of its "
            f"maker; if you trust them, give {TRUST_OPTION}"
        ) from error
    # A file cut short or of another kind fails in as many ways as there are readers.
    except Exception as error:
        raise UsageError(f"checkpoint: {path} cannot be read: {_line(error)}") from error


def _tensors(read: Any) -> dict[str, Tensor]:
    """The tensors of what was read, or of the first known place in it that has any."""
    if not isinstance(read, Mapping):
        state = getattr(read, "state_dict", None)  # a whole module, from a trusted file
        return _tensors(state()) if callable(state) else {}
    for place in _PLACES:
        if found := _direct(read.get(place)):
            return found
    return _direct(read)


def _direct(read: Any) -> dict[str, Tensor]:
    if callable(state := getattr(read, "state_dict", None)):
        read = state()
    if not isinstance(read, Mapping):
        return {}
    return {str(name): value for name, value in read.items() if isinstance(value, Tensor)}


def _line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
