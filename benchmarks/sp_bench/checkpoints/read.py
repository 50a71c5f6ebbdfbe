"""`read_weights`: the tensors of a checkpoint file, which is untrusted input."""

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

# Keys of the weights in a checkpoint: Lightning, solo-learn and OpenMMLab use state_dict, the
# scripts of timm and MAE model, DINO's student and teacher.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "student", "teacher")


def read_weights(path: Path, trust: bool = False) -> dict[str, Tensor]:
    """Tensors of a checkpoint by key, taken out of the dict that wraps them.

    Args:
        path: file of torch or of safetensors.
        trust: whether the file may run code of its own while it is read.

    Raises:
        UsageError: the file is missing or unreadable, has no weights, or needs ``trust``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": {"fc.bias": torch.ones(2)}}, f"{folder}/a.ckpt")
    ...     read_weights(Path(f"{folder}/a.ckpt"))
    {'fc.bias': tensor([1., 1.])}
    """
    if not path.is_file():
        problem = "is a folder; takes a file" if path.is_dir() else "is not there"
        raise UsageError(f"checkpoint: {path} {problem}")
    weights = _unwrap(_read_file(path, trust))
    if weights:
        return weights
    raise UsageError(f"checkpoint: {path} holds no weights")


def _read_file(path: Path, trust: bool) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:  # SafetensorError has no base class but Exception
            raise _unreadable(path, error) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        # For bytes that are no pickle torch reports an unsupported operand.
        if trust or "Unsupported operand" in str(error) or "Weights only" not in str(error):
            raise _unreadable(path, error) from error
        raise UsageError(
            f"checkpoint: {path} holds more than weights, and to read it may run code of its "
            f"maker; if you trust them, give {TRUST_OPTION}"
        ) from error
    # The readers raise errors of many types on truncated files and on files of another kind.
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    reason = " ".join((str(error) or type(error).__name__).split())[:200]
    return UsageError(f"checkpoint: {path} cannot be read: {reason}")


def _unwrap(content: Any) -> dict[str, Tensor]:
    """Tensors of the first wrapper that has any, or of the content itself."""
    content = _state_dict(content)
    for wrapper in _WRAPPERS:
        if weights := _tensors(_state_dict(content.get(wrapper))):
            return weights
    return _tensors(content)


def _state_dict(content: Any) -> Mapping[Any, Any]:
    """The mapping itself, or the state dict of a whole module, which a trusted file can have."""
    if not isinstance(content, Mapping) and callable(getattr(content, "state_dict", None)):
        content = content.state_dict()
    return content if isinstance(content, Mapping) else {}


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
