"""`read_weights`: the tensors of a checkpoint file, which is untrusted input."""

from __future__ import annotations

import hashlib
import json
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
# scripts of MAE model. Others, such as DINO's student and teacher, are part of the keys.
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_INDEX = ".index.json"  # of a sharded checkpoint of Hugging Face
_PICKLES = (b"PK", b"\x80")  # how torch's files begin, today's and those before torch 1.6


def read_weights(path: Path, trust: bool = False) -> dict[str, Tensor]:
    """Tensors of a checkpoint by key, taken out of the dicts that contain them.

    Args:
        path: file of torch or of safetensors, or the index of a sharded one.
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
    weights = _tensors(_read_file(path, trust))
    if weights:
        return weights
    raise UsageError(f"checkpoint: {path} holds no weights")


def weights_digest(path: Path) -> str:
    """SHA-256 of the content of a checkpoint, or of all weights in a folder of Hugging Face.

    Args:
        path: as for `read_weights`, or a folder.

    Returns:
        Hexadecimal; empty if the path is not there.

    >>> weights_digest(Path("no.ckpt"))
    ''
    """
    if not path.exists():
        return ""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".bin"))
    elif path.name.endswith(_INDEX):
        files += _find_shards(path)
    digest = hashlib.sha256()
    for name in files:
        with name.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    return digest.hexdigest()


def _read_file(path: Path, trust: bool) -> Any:
    if path.name.endswith(_INDEX):
        return _read_shards(path, trust)
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise UsageError(f"checkpoint: {path} cannot be read: it is empty")
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        try:
            return load_file(path)
        except Exception as error:  # SafetensorError has no base class but Exception
            raise _unreadable(path, error) from error
    if not start.startswith(_PICKLES):
        raise UsageError(
            f"checkpoint: {path} cannot be read: no file of torch or safetensors, it begins with "
            f"{start[:20]!r}"
        )
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


def _read_shards(path: Path, trust: bool) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for shard in _find_shards(path):
        weights |= read_weights(shard, trust)
    return weights


def _find_shards(path: Path) -> list[Path]:
    """All files that an index names, which lie next to it."""
    try:
        names = set(json.loads(path.read_text())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"checkpoint: {path} cannot be read: no index of a sharded checkpoint"
        ) from error
    # Only the name: an index cannot reach files of other folders.
    return [path.parent / Path(str(name)).name for name in sorted(names)]


def _unreadable(path: Path, error: Exception) -> UsageError:
    reason = " ".join((str(error) or type(error).__name__).split())[:200]
    return UsageError(f"checkpoint: {path} cannot be read: {reason}")


def _tensors(content: Any) -> dict[str, Tensor]:
    """Tensors by dotted key, without the key of the container that holds the model's."""
    content = _mapping(content)
    main = next((key for key in _CONTAINERS if _mapping(content.get(key))), None)
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(value, Tensor):
            tensors[str(key)] = value
        elif "optim" not in str(key):
            prefix = "" if key == main else f"{key}."
            tensors |= {prefix + name: tensor for name, tensor in _tensors(value).items()}
    return tensors


def _mapping(content: Any) -> Mapping[Any, Any]:
    """The mapping itself, or the state dict of a whole module, which a trusted file can have."""
    if not isinstance(content, Mapping) and callable(getattr(content, "state_dict", None)):
        content = content.state_dict()
    return content if isinstance(content, Mapping) else {}
