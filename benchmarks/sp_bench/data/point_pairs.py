"""Points that show the same place in two images: what is in a folder laid out as SPair-71k's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.image_files import open_image
from sp_bench.data.load import load_unlabelled

_ANNOTATIONS, _LAYOUT = "PairAnnotation", "Layout/large/test.txt"


@dataclass(frozen=True)
class PointPairs:
    """n pairs of points, each in two images a and b.

    Attributes:
        pair: (n,) int64, index of the pair of images that a pair of points is in.
        images: (2, n) int64, indices of image a and image b.
        points: (2, n, 2), x and y in image a and in image b, as fractions of it.
        frame: (n, 2), width and height of image b, in units of the length that distances are
            measured by: its own side, or the larger side of the object's box.
    """

    pair: Tensor
    images: Tensor
    points: Tensor
    frame: Tensor


class SPairImages(ImageDataset):
    """The images of the test pairs of SPair-71k (arXiv 1908.10543), with their keypoints.

    Args:
        folder: has ``Layout/large/test.txt``, one name of a pair in a line,
            ``PairAnnotation/test/NAME.json`` and ``JPEGImages/CATEGORY/*.jpg``.

    Attributes:
        pairs: the keypoints that both images of a pair show.

    Raises:
        DataError: a file is missing or not as in SPair-71k.
    """

    def __init__(self, folder: Path) -> None:
        try:
            names = (folder / _LAYOUT).read_text().split()
            annotations = [
                json.loads((folder / _ANNOTATIONS / "test" / f"{name}.json").read_text())
                for name in names
            ]
            self._paths, self.pairs = _read_pairs(folder / "JPEGImages", annotations)
        except OSError as error:
            raise DataError.of(folder, f"laid out as SPair-71k, but {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            problem = f"{_ANNOTATIONS}: not as in SPair-71k: {error!r}"
            raise DataError.of(folder, problem) from error
        if not len(self.pairs.pair):
            raise DataError.of(folder, f"{_LAYOUT}: no pair has a keypoint")
        categories = [path.parent.name for path in self._paths]
        self.classes = tuple(sorted(set(categories)))
        self.labels = torch.tensor([self.classes.index(name) for name in categories])

    def image(self, index: int) -> Image.Image:
        return open_image(self._paths[index])


def _read_pairs(
    folder: Path, annotations: Sequence[dict[str, Any]]
) -> tuple[list[Path], PointPairs]:
    """Image files of all pairs, each once, and the points in them."""
    indices: dict[Path, int] = {}
    sizes: list[Tensor] = []
    parts: list[tuple[Tensor, ...]] = []
    for pair, annotation in enumerate(annotations):
        points = []
        for end in ("src", "trg"):
            path = folder / annotation["category"] / annotation[f"{end}_imname"]
            if path not in indices:
                indices[path] = len(indices)
                with Image.open(path) as image:
                    sizes.append(torch.tensor(image.size, dtype=torch.float32))
            # The middle of pixel 0 is at half a pixel.
            pixels = torch.tensor(annotation[f"{end}_kps"], dtype=torch.float32).view(-1, 2) + 0.5
            points.append((indices[path], pixels / sizes[indices[path]]))
        (a, points_a), (b, points_b) = points
        left, top, right, bottom = annotation["trg_bndbox"]
        count = len(points_a)
        parts.append(
            (
                torch.full((count,), pair),
                torch.tensor([[a], [b]]).expand(2, count),
                torch.stack([points_a, points_b]),
                (sizes[b] / max(right - left, bottom - top)).expand(count, 2),
            )
        )
    if not parts:
        raise ValueError("no pairs")
    pair_index, images, both, frame = zip(*parts, strict=True)
    pairs = PointPairs(
        torch.cat(pair_index), torch.cat(images, dim=1), torch.cat(both, dim=1), torch.cat(frame)
    )
    return list(indices), pairs


def load_point_pairs(source: str | None, shared: Splits | None) -> Splits:
    """SPair-71k, if the source is a folder laid out like it; else images, with labels or without.

    Arguments and errors are those of `load_unlabelled`. SPair-71k has `SPairImages` for both parts.
    """
    folder = Path(source or "").expanduser()
    if source is None or not (folder / _ANNOTATIONS).is_dir():
        return load_unlabelled(source, shared)
    images = SPairImages(folder)
    return Splits(folder.name, images, images)
