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
# Lightning, timm (last), DINO and PyTorch's ImageNet example (checkpoint) write it at each epoch.
_LAST = re.compile(r"(last(-v\d+)?|checkpoint)\.[a-z.]+")
# Words before a number, the most decisive first. Lightning's folder version_1 is a later run than
# version_0, whatever their epochs.
_COUNTERS = tuple(
    re.compile(rf"(?<![a-z0-9]){word}[=_. -]*(\d+)")
    for word in ("version", "ep(?:och)?", "step", "iter(?:ation)?", "checkpoint")
)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint itself, or the last one in a folder.

    In a folder, the first of these: ``final.ckpt`` of sp-bench; the one that MMEngine's
    ``last_checkpoint`` names; the newest of all by its time of change, if it is a ``last.*`` or
    ``checkpoint.*``; the one with the highest number in the names of files and of folders below
    this one: that after ``version``, ``epoch``, ``step``, ``iter`` or ``checkpoint``, in this
    order, before any other.

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
    newest = max(file.stat().st_mtime_ns for file in whole)
    return max(
        whole,
        key=lambda file: (
            # timm links the last to that of its epoch, so both have the same time.
            bool(_LAST.fullmatch(file.name)) and file.stat().st_mtime_ns == newest,
            _numbers(str(file.relative_to(path))),
            file.name,
            file,
        ),
    )


def _is_checkpoint(file: Path) -> bool:
    return file.name.endswith(_ENDINGS) and not file.name.startswith(_NO_MODELS) and file.is_file()


def _numbers(name: str) -> tuple[list[int], list[int]]:
    """The number after each of the counters in a path, -1 where there is none; and all numbers.

    >>> _numbers("version_1/acc=0.5-epoch=9-step=80.ckpt")
    ([1, 9, 80, -1, -1], [1, 0, 5, 9, 80])
    """
    counted = [counter.findall(name.lower()) for counter in _COUNTERS]
    # The last is the nearest to the file's own name.
    counts = [int(found[-1]) if found else -1 for found in counted]
    return counts, [int(number) for number in re.findall(r"\d+", name)]
