"""Which file of a host's folder is the trained one."""

from __future__ import annotations

import re
from pathlib import Path

from sp_bench.errors import UsageError

_ENDINGS = (".ckpt", ".pth", ".pt", ".safetensors")
_POINTER = "last_checkpoint"  # mmengine writes the newest one's path into it
_FINAL = "final.ckpt"  # sp-bench's own


def find_checkpoint(given: Path) -> Path:
    """A checkpoint: the file that was given, or the last of a run's folder.

    Of sp-bench ``final.ckpt``, of MMEngine what ``last_checkpoint`` names, of others that of the
    latest epoch or step, by the numbers in the names (``last.ckpt`` where there are none).

    Raises:
        UsageError: there is no such file or folder, or no checkpoint in it.
    """
    if given.is_file():
        return given
    if not given.is_dir():
        raise UsageError(f"checkpoint: {given} is not there; takes a file or a run's folder")
    if (given / _FINAL).is_file():
        return given / _FINAL
    pointer = given / _POINTER
    if pointer.is_file():
        # The path is that of the machine it was trained on; the name is enough.
        named = given / Path(pointer.read_text().strip()).name
        if named.is_file():
            return named
    found = [path for path in given.rglob("*") if path.suffix in _ENDINGS and path.is_file()]
    if not found:
        raise UsageError(f"checkpoint: none in {given}; takes {', '.join(_ENDINGS)}")
    return max(found, key=lambda path: (_numbers(path.stem), path.name))


def _numbers(name: str) -> list[int]:
    """The numbers in a name, such as epoch and step.

    >>> _numbers("simclr-cifar10-ep=999") > _numbers("simclr-cifar10-ep=99")
    True
    """
    return [int(number) for number in re.findall(r"\d+", name)]
