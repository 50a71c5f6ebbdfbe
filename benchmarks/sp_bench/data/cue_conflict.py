"""Cue-conflict images: the shape of one class with the texture of another (Geirhos 2019)."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from sp_bench.data.dataset import DataError, Splits
from sp_bench.data.demo import load_demo_cues, missing_source
from sp_bench.data.image_folder import FolderDataset
from sp_bench.data.image_listing import find_files

_CLASSES_FILE = "classes.json"
_FILE_NAME = re.compile(r"(?P<shape>.*?)\d*-(?P<texture>.*?)\d*")


class CueConflictDataset(FolderDataset):
    """Images with two classes each, one of the shape and one of the texture.

    Args:
        paths: (N,) image files.
        shapes: (N,) classes of the shapes, each in ``[0, len(classes))``.
        textures: (N,) classes of the textures, in the same range.
        classes: names of the probe's classes, by label.

    Attributes:
        labels: (N,) int64, classes of the shapes.
        textures: (N,) int64, classes of the textures.
    """

    def __init__(
        self,
        paths: Sequence[str],
        shapes: Sequence[int],
        textures: Sequence[int],
        classes: tuple[str, ...],
    ) -> None:
        super().__init__(paths, shapes, classes)
        self.textures = torch.tensor(textures, dtype=torch.int64)


def load_cues(source: str | None, shared: Splits | None) -> Splits:
    """Images to fit a probe on, and cue-conflict images of the classes that both have.

    The classes are matched by name, or by ``classes.json`` in the folder, such as
    ``{"boat": "ship"}``; common other names of Geirhos' 16 classes are built in.

    Args:
        source: ``demo``, or a folder of ``SHAPE/SHAPE<n>-TEXTURE<n>.png``; None: the demo, if it
            is the shared source.
        shared: images of all tasks, which the probe is fitted on; not used for ``demo``.

    Returns:
        ``train`` of ``shared``, and cue-conflict images as ``test``, whose shape and texture are
        of different classes.

    Raises:
        DataError: there is no source, or fewer than two of its classes are classes of ``shared``.
    """
    is_shared_demo = shared is not None and shared.name == "demo"
    if source == "demo" or (source is None and is_shared_demo):
        return load_demo_cues()
    if source is None:
        raise missing_source("cue-conflict images: demo, or a folder of them", shared)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise DataError.of(source, "the folder does not exist")
    if shared is None:
        raise DataError.of(source, "it takes images of classes too, to fit the probe on")
    classes = shared.train.classes
    files = _list_cues(folder)
    names = {name for _, shape, texture in files for name in (shape, texture)}
    label_of = _match_classes(folder, names, classes)
    conflicts = [
        (path, label_of[shape], label_of[texture])
        for path, shape, texture in files
        if shape in label_of and texture in label_of and label_of[shape] != label_of[texture]
    ]
    if not conflicts:
        raise DataError.of(source, "no image's shape and texture are of two known classes")
    paths, shapes, textures = zip(*conflicts, strict=True)
    test = CueConflictDataset(paths, shapes, textures, classes)
    return Splits(shared.name, shared.train, test)


def _list_cues(folder: Path) -> list[tuple[str, str, str]]:
    """Path, shape and texture of each image."""
    cues = []
    for path in find_files(folder):
        name = _FILE_NAME.fullmatch(Path(path).stem)
        if name is None or name["shape"] != Path(path).parent.name:
            raise DataError.of(
                folder,
                f"{Path(path).parent.name}/{Path(path).name}: it takes "
                "SHAPE/SHAPE<n>-TEXTURE<n>, such as cat/cat1-elephant2.png",
            )
        cues.append((path, name["shape"], name["texture"]))
    if not cues:
        raise DataError.of(folder, "no images in it")
    return cues


def _match_classes(folder: Path, names: set[str], classes: tuple[str, ...]) -> dict[str, int]:
    """Label of each name that is one of the probe's classes."""
    label_of = {name.lower(): label for label, name in enumerate(classes)}
    synonyms = _read_synonyms(folder / _CLASSES_FILE, label_of)
    matched = {}
    for name in sorted(names):
        candidates = [name, *synonyms.get(name, [])]
        known = [candidate for candidate in candidates if candidate in label_of]
        if known:
            matched[name] = label_of[known[-1]]
    if len(matched) < 2:
        raise DataError.of(
            folder,
            f"{len(matched)} of its classes ({', '.join(sorted(names))}) are the probe's "
            f"({', '.join(classes)}), it takes two; classes.json matches them",
        )
    return matched


def _read_synonyms(path: Path, label_of: dict[str, int]) -> dict[str, list[str]]:
    """Other names of the classes: those in ``path`` if it exists, else the built-in ones."""
    if not path.exists():
        built_in = importlib.resources.files(__package__).joinpath("cue_classes.json")
        return dict(json.loads(built_in.read_text()))
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{str(path)!r}: no JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise DataError(f'{str(path)!r}: it takes names by names, such as {{"boat": "ship"}}')
    synonyms = {name: [other.lower()] for name, other in content.items()}
    unknown = sorted({other for [other] in synonyms.values()} - label_of.keys())
    if unknown:
        raise DataError(
            f"{str(path)!r}: {unknown[0]!r} is no class of the probe; they are "
            f"{', '.join(label_of)}"
        )
    return synonyms
