"""In-context segmentation: class of each pixel, from its nearest patches in the training images.

The evaluation of Hummingbird (Balazevic et al., NeurIPS 2023, arXiv 2306.01667, section 3.1), which
fits nothing: a memory has features of training patches and the shares of the classes in them, and
a patch of a test image attends to its nearest entries, by an exact search. The details follow
open-hummingbird-eval 2.0.0 (which needs a GPU, and is not on PyPI), but void pixels count for no
class; there they count for class 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sp_bench.data.dense_dataset import VOID
from sp_bench.data.segmentation_masks import load_masks
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.tasks.dense_features import DenseFeatures
from sp_bench.tasks.segmentation import evaluate_masks, mask_metrics
from sp_bench.tasks.task import EVALUATION_SEED, SPATIAL, Task
from sp_plugin.isolation import make_generator

# The paper's, apart from the size: it has 10,240,000 entries.
_NEIGHBOURS, _TEMPERATURE, _MEMORY_SIZE = 30, 0.02, 10_240
_MAX_NUMBERS = 2**23  # in the largest table of a batch: 32 MiB


def count_classes(mask: np.ndarray, size: tuple[int, int], num_classes: int) -> Tensor:
    """Number of pixels of each class in each cell of a grid, without void pixels.

    Args:
        mask: (H, W), classes in ``[0, num_classes)`` or ``VOID``.
        size: rows and columns of the grid.
        num_classes: number of classes.

    Returns:
        (rows * columns, num_classes), int64, cells row by row.

    >>> count_classes(np.array([[0, 0, 1, 255], [0, 1, 1, 255]]), (1, 2), 2).tolist()
    [[3, 1], [0, 2]]
    """
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(mask.shape, size, strict=True))
    cells = rows[:, None] * size[1] + columns
    counts = mask != VOID
    pairs = torch.from_numpy(cells[counts] * num_classes + mask[counts])
    num_cells = size[0] * size[1]
    return torch.bincount(pairs, minlength=num_cells * num_classes).view(num_cells, num_classes)


def choose_patches(counts: Tensor, max_patches: int, generator: torch.Generator) -> Tensor:
    """Random patches of one image, with more of those whose classes are rare in it.

    A patch's score is a random number times the sum, over the classes in it, of the number of
    patches that have the class; the lowest scores are taken. Patches of void pixels alone are not.

    Args:
        counts: (P, C), as of `count_classes`.
        max_patches: largest number of patches.
        generator: generator of the random numbers.

    Returns:
        (n,) int64, n <= max_patches.
    """
    present = (counts > 0).float()
    scores = present @ present.sum(dim=0) * torch.rand(len(counts), generator=generator)
    labelled = counts.any(dim=1)
    num_patches = min(max_patches, int(labelled.sum()))
    return scores.masked_fill(~labelled, torch.inf).topk(num_patches, largest=False).indices


@dataclass(frozen=True)
class PatchMemory:
    """Features of patches with their classes; calling it predicts the classes of other patches.

    Attributes:
        features: (M, D), of norm 1.
        shares: (M, C), share of each class in a patch.
    """

    features: Tensor
    shares: Tensor

    def __call__(self, maps: Tensor) -> Tensor:
        """Shares of the classes, (B, C, h, w), from feature maps (B, D, h, w)."""
        queries = F.normalize(maps.movedim(1, 3).flatten(0, 2), dim=1)
        batches = queries.split(max(1, _MAX_NUMBERS // len(self.features)))
        shares = torch.cat([self._attend(batch) for batch in batches])
        return shares.unflatten(0, (len(maps), *maps.shape[2:])).movedim(3, 1)

    def _attend(self, queries: Tensor) -> Tensor:
        k = min(_NEIGHBOURS, len(self.features))
        similarity, nearest = (queries @ self.features.T).topk(k, dim=1)
        weights = (similarity / _TEMPERATURE).softmax(dim=1)
        return (weights[:, None] @ self.shares[nearest])[:, 0]


def build_memory(features: DenseFeatures, num_classes: int) -> PatchMemory:
    """Memory of training images, with the same number of patches of each, if they have as many.

    Args:
        features: features and masks of the images.
        num_classes: number of classes.

    Raises:
        UnmeasurableError: every pixel of the masks is void.
    """
    num_images, _, height, width = features.maps.shape
    max_patches = max(1, _MEMORY_SIZE // num_images)
    entries, shares = [], []
    for row, patches in enumerate(features.maps.flatten(2).mT):
        counts = count_classes(features.values(row), (height, width), num_classes)
        chosen = choose_patches(counts, max_patches, make_generator(EVALUATION_SEED, row))
        entries.append(F.normalize(patches[chosen], dim=1))
        shares.append(F.normalize(counts[chosen].float(), p=1, dim=1))
    memory = PatchMemory(torch.cat(entries), torch.cat(shares))
    if not len(memory.features):
        raise UnmeasurableError("data: every pixel of the training masks is void")
    return memory


TASK = Task(
    "in_context",
    mask_metrics("in_context", "in-context segmentation"),
    partial(evaluate_masks, "in_context", build_memory),
    load_masks,
    quality=SPATIAL,
)
