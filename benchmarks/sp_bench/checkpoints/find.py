"""`find_checkpoint`: the last checkpoint in the folder of a run."""

from __future__ import annotations

import re
from pathlib import Path

from sp_bench.errors import UsageError

_ENDINGS = (".ckpt", ".pth", ".pt", ".pth.tar", ".bin", ".safetensors", ".index.json")
_NO_MODELS = (
    "optimizer",
    "scheduler",
    "rng_state",
    "training_args",
    "random_states",
    "task_examples",
)
_POINTER = "last_checkpoint"  # file in which MMEngine writes the path of the last one
_FINAL = "final.ckpt"  # written by sp-bench


def find_checkpoint(path: Path) -> Path:
    """The checkpoint itself, or the last one in a folder.

    In a folder, the first of these: ``final.ckpt`` of sp-bench; the one that MMEngine's
    ``last_checkpoint`` names; the one with the highest epoch or step, by the numbers in the names
    of files and of folders below this one (``last.ckpt`` if there are none).

    Args:
        path: checkpoint file, or folder of a run.

    Raises:
        UsageError: the path does not exist, or the folder contains no checkpoint.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"checkpoint: {path} is not there; takes a file or a run's folder")
    if (path / _FINAL).is_file():
        return path / _FINAL
    pointer = path / _POINTER
    if pointer.is_file():
        # Its path is that of the machine of the training; the name is enough.
        named = path / Path(pointer.read_text().strip()).name
        if named.is_file():
            return named
    checkpoints = [file for file in path.rglob("*") if _is_checkpoint(file)]
    if not checkpoints:
        raise UsageError(f"checkpoint: none in {path}; takes {', '.join(_ENDINGS)}")
    # The shards of an index are numbered, and are no checkpoints by themselves.
    sharded = {file.parent for file in checkpoints if file.name.endswith(".index.json")}
    whole = [
        file
        for file in checkpoints
        if file.parent not in sharded or file.name.endswith(".index.json")
    ]
    return max(whole, key=lambda file: (_numbers(str(file.relative_to(path))), file.name, file))


def _is_checkpoint(file: Path) -> bool:
    return file.name.endswith(_ENDINGS) and not file.name.startswith(_NO_MODELS) and file.is_file()


def _numbers(name: str) -> list[int]:
    """Numbers in a name, such as epoch and step.

    >>> _numbers("simclr-cifar10-ep=999") > _numbers("simclr-cifar10-ep=99")
    True
    """
    return [int(number) for number in re.findall(r"\d+", name)]
