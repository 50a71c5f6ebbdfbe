"""Cue-conflict images: the shape of one class with the texture of another (Geirhos 2019)."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.demo_cue_conflict import load_demo_cues
from sp_bench.data.image_files import find_files
from sp_bench.data.image_folder import FolderDataset

_CLASSES_FILE = "classes.json"
_NAME = re.compile(r"(?P<shape>.*?)\d*-(?P<texture>.*?)\d*")


class CueConflictDataset(ImageDataset):
    """Images with two classes each.

    Args:
        paths: (N,) files.
        shapes: (N,) classes of the shapes, each in ``[0, len(classes))``.
        textures: (N,) classes of the textures, likewise.
        classes: of the probe that is asked.

    Attributes:
        labels: the shapes.
        textures: (N,) int64.
    """

    def __init__(
        self,
        paths: Sequence[str],
        shapes: Sequence[int],
        textures: Sequence[int],
        classes: tuple[str, ...],
    ) -> None:
        self._files = FolderDataset(paths, shapes, classes)
        self.labels, self.classes = self._files.labels, classes
        self.textures = torch.tensor(textures, dtype=torch.int64)

    def image(self, index: int) -> Image.Image:
        return self._files.image(index)


def load_cues(given: str | None, main: Splits | None) -> Splits:
    """Images to fit a probe on, and cue-conflict images of the classes that both have.

    Args:
        given: ``demo``, or a folder of ``SHAPE/SHAPE<n>-TEXTURE<n>.png``; None takes the demo's
            where it is what all tasks are asked about.
        main: the images of all tasks, which the probe is fitted on; not used for ``demo``.

    Returns:
        ``train`` of ``main``, and cue-conflict images for ``test``, whose shape and texture are
        of different classes.

    Raises:
        DataError: there are none, or fewer than two of the classes are ``main``'s.

    The classes are matched by name, or by ``classes.json`` in the folder, such as
    ``{"boat": "ship"}``; a few other names for Geirhos' 16 classes are known.
    """
    if given == "demo" or (given is None and main is not None and main.name == "demo"):
        return load_demo_cues()
    if given is None:
        raise DataError("it takes cue-conflict images: demo, or a folder of them")
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise DataError(f"data={given!r}: the folder does not exist")
    if main is None:
        raise DataError(f"data={given!r}: it takes images of classes too, to fit the probe on")
    files = _find(folder)
    label_of = _match(folder, {name for _, *names in files for name in names}, main.train.classes)
    known = [
        (path, label_of[shape], label_of[texture])
        for path, shape, texture in files
        if shape in label_of and texture in label_of and label_of[shape] != label_of[texture]
    ]
    if not known:
        raise DataError(f"data={given!r}: no image's shape and texture are of two known classes")
    paths, shapes, textures = zip(*known, strict=True)
    return Splits(
        main.name, main.train, CueConflictDataset(paths, shapes, textures, main.train.classes)
    )


def _find(folder: Path) -> list[tuple[str, str, str]]:
    """Path, shape and texture of each image."""
    found = []
    for path in find_files(folder):
        name = _NAME.fullmatch(Path(path).stem)
        if name is None or name["shape"] != Path(path).parent.name:
            raise DataError(
                f"data={str(folder)!r}: {Path(path).parent.name}/{Path(path).name}: it takes "
                "SHAPE/SHAPE<n>-TEXTURE<n>, such as cat/cat1-elephant2.png"
            )
        found.append((path, name["shape"], name["texture"]))
    if not found:
        raise DataError(f"data={str(folder)!r}: no images in it")
    return found


def _match(folder: Path, names: set[str], classes: tuple[str, ...]) -> dict[str, int]:
    """The label of each name that is one of the probe's classes."""
    label_of = {name.lower(): label for label, name in enumerate(classes)}
    told = folder / _CLASSES_FILE
    if told.exists():
        matched = _read_classes(told)
        wrong = sorted(set(matched.values()) - label_of.keys())
        if wrong:
            raise DataError(
                f"{str(told)!r}: {wrong[0]!r} is no class of the probe; they are "
                f"{', '.join(classes)}"
            )
        others = {name: [other] for name, other in matched.items()}
    else:
        packed = importlib.resources.files(__package__).joinpath("cue_classes.json")
        others = json.loads(packed.read_text())
    found = {}
    for name in sorted(names):
        known = [each for each in (name, *others.get(name, [])) if each in label_of]
        if known:
            found[name] = label_of[known[-1]]
    if len(found) < 2:
        raise DataError(
            f"data={str(folder)!r}: {len(found)} of its classes ({', '.join(sorted(names))}) are "
            f"the probe's ({', '.join(classes)}), it takes two; classes.json matches them"
        )
    return found


def _read_classes(path: Path) -> dict[str, str]:
    try:
        told = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{str(path)!r}: no JSON: {error}") from error
    if not isinstance(told, dict) or not all(isinstance(each, str) for each in told.values()):
        raise DataError(f'{str(path)!r}: it takes names by names, such as {{"boat": "ship"}}')
    return {name: other.lower() for name, other in told.items()}
