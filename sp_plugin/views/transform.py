"""The host's own views as SP's crops: where they lie in the image, recorded as they are made.

With ``source="host_views"`` SP draws nothing and encodes nothing: it asks about views that the host
makes and encodes anyway. `ViewBoxTransform` stands round the host's transform in the data set, and tells
for each view its box in the original image and its flips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sp_plugin.crops.images import is_image
from sp_plugin.isolation import private_rng
from sp_plugin.validation import ConfigError
from sp_plugin.views.location import UNKNOWN
from sp_plugin.views.tracking import TransformTracker
from sp_plugin.views.trails import track_image

_SIDE = 256  # px of the blank image that places are drawn on
_DRAWS = 256
_INSTEAD = (
    "SP follows torchvision's crops and flips and what is built of them; take 'view' or 'image'"
)


class ViewBoxes(NamedTuple):
    """Where the views of a batch lie in their images.

    Attributes:
        boxes: (V, B, 4), (cx, cy, w, h) as fractions of the original image; NaN where a view
            cannot be followed to it.
        flips: (V, B, 2), -1 where a view is mirrored left to right, top to bottom, else 1.
    """

    boxes: Tensor
    flips: Tensor

    @classmethod
    def from_batch(cls, sample: Mapping[str, Any]) -> ViewBoxes:
        """From what a data loader makes of the samples of `ViewBoxTransform`.

        Args:
            sample: ``boxes`` (B, V, 4) and ``flips`` (B, V, 2).

        >>> ViewBoxes.from_batch({"boxes": torch.zeros(5, 8, 4), "flips": torch.ones(5, 8, 2)})[0].shape
        torch.Size([8, 5, 4])
        """
        return cls(sample["boxes"].transpose(0, 1), sample["flips"].transpose(0, 1))


class ViewBoxTransform:
    """A host's transform with its views' places beside them; the views stay bit for bit the same.

    Followed are torchvision's crops and flips (v1 and v2) and what is built of them, such as the
    transforms of lightly and solo-learn. A view that was turned, warped or padded has no box, and
    pairs with it do not count.

    Args:
        transform: of the host: from an image to views of any form.

    Raises:
        ConfigError: at an image of which no view can be followed.

    >>> sample = ViewBoxTransform(lambda image: [image, image])(torch.rand(3, 32, 32))
    >>> sample["sp"]["boxes"][0].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """

    def __init__(self, transform: Any) -> None:
        self.original = transform
        self._followed: TransformTracker | None = TransformTracker(transform)
        self.transform = self._followed.transform

    def remove(self) -> None:
        """Take the watch off the host's transform, which is whole again."""
        if self._followed is not None:
            self._followed.remove()

    def __call__(self, image: Any) -> dict[str, Any]:
        return self._run(image)

    def sample_boxes(self, n: int = _DRAWS, seed: int = 0) -> Tensor:
        """Boxes of ``n`` runs on a blank square image, the host's generators untouched.

        Parts that neither crop nor flip are left out.

        Returns:
            (n, V, 4).

        Raises:
            ConfigError: no view can be followed, or the transform takes no blank image.
        """
        blank = torch.zeros(3, 1, 1, device="cpu").expand(3, _SIDE, _SIDE)
        with private_rng(seed):
            try:
                return torch.stack([self._run(blank, dry=True)["sp"]["boxes"] for _ in range(n)])
            except ConfigError:
                raise
            except Exception as error:  # whatever a transform says of an image it does not take
                raise ConfigError(f"{self._refused}: {error}; {_INSTEAD}") from error

    def _run(self, image: Any, dry: bool = False) -> dict[str, Any]:
        with track_image(image, dry) as trail:
            views = self.transform(image)
        places = [trail.place(view) for view in _views(views)]
        if all(place is None for place in places):
            raise ConfigError(f"{self._refused}; {_INSTEAD}")
        known = [place or UNKNOWN for place in places]
        boxes = torch.tensor([place.box for place in known], dtype=torch.float32, device="cpu")
        flips = torch.tensor([place.flips for place in known], dtype=torch.float32, device="cpu")
        return {"views": views, "sp": {"boxes": boxes, "flips": flips}}

    @property
    def _refused(self) -> str:
        name = getattr(self.original, "__name__", type(self.original).__name__)
        return f"source: got 'host_views', but no view of {name} can be followed to its image"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_followed": None}  # whoever put it on takes it off, no copy

    def __repr__(self) -> str:
        return f"ViewBoxTransform({self.original!r})"


def _views(item: Any) -> Iterator[Any]:
    """The views in what a transform gave, depth first: floating point (3, H, W)."""
    if is_image(item):
        if not isinstance(item, Tensor) or (item.shape[0] == 3 and item.is_floating_point()):
            yield item
        return
    if isinstance(item, Mapping):
        item = list(item.values())
    for part in item if isinstance(item, (list, tuple)) else ():
        yield from _views(part)


def find_views(batch: Any) -> list[Tensor]:
    """The same views in a batch, depth first: floating point (B, 3, H, W).

    >>> [view.shape[-1] for view in find_views([[torch.zeros(2, 3, 8, 8)], torch.zeros(2, 3)])]
    [8]
    """
    if isinstance(batch, Tensor):
        fits = batch.ndim == 4 and batch.shape[1] == 3 and batch.is_floating_point()
        return [batch] if fits else []
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    parts = batch if isinstance(batch, (list, tuple)) else ()
    return [view for part in parts for view in find_views(part)]
