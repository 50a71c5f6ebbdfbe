"""ViewBoxTransform: the method's transform, with the location of each view recorded as it is made.

With ``source="host_views"`` SP samples no crops and encodes none: it uses views that the method
makes and encodes anyway. The transform of the data set then has to provide where they lie.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sp_plugin.crops.images import is_image
from sp_plugin.isolation import private_rng
from sp_plugin.nested import tree_leaves
from sp_plugin.structures import IMAGE_CHANNELS
from sp_plugin.validation import ConfigError
from sp_plugin.views.location import UNKNOWN
from sp_plugin.views.location_tracker import track_image
from sp_plugin.views.tracking import TransformTracker

__all__ = ["ViewBoxTransform"]

_BLANK_SIDE = 256  # px
_NUM_RUNS = 256
_HINT = "SP tracks torchvision's crops and flips and what is built of them; take 'view' or 'image'"


class ViewBoxTransform:
    """The method's transform, with the boxes of its views next to them; the views stay identical.

    Tracked are torchvision's crops and flips (v1 and v2) and what is built of them, such as the
    transforms of lightly and solo-learn. A view that was rotated, warped or padded has no box, and
    pairs with it do not count.

    Args:
        transform: the method's transform, from an image to views in any nesting.

    Raises:
        ConfigError: when called, where no view can be located in the image.

    >>> sample = ViewBoxTransform(lambda image: [image, image])(torch.rand(3, 32, 32))
    >>> sample["sp"]["boxes"][0].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """

    def __init__(self, transform: Any) -> None:
        self.original = transform
        self._tracker: TransformTracker | None = TransformTracker(transform)
        self.transform = self._tracker.transform

    def remove(self) -> None:
        """Restore the method's transform."""
        if self._tracker is not None:
            self._tracker.remove()

    def __call__(self, image: Any) -> dict[str, Any]:
        """Make views of an image.

        Returns:
            ``views``, and under ``sp``: ``boxes`` (V, 4) and ``flips`` (V, 2); see
            `sp_plugin.structures.ViewBoxes`.
        """
        return self._run(image)

    def sample_boxes(self, n: int = _NUM_RUNS, seed: int = 0) -> Tensor:
        """Boxes of ``n`` runs on a blank square image; the host's generators stay as they were.

        Transforms that neither crop nor flip are left out.

        Returns:
            (n, V, 4).

        Raises:
            ConfigError: no view can be located, or the transform takes no blank image.
        """
        blank = torch.zeros(3, 1, 1, device="cpu").expand(3, _BLANK_SIDE, _BLANK_SIDE)
        with private_rng(seed):
            try:
                runs = [self._run(blank, geometry_only=True) for _ in range(n)]
                return torch.stack([run["sp"]["boxes"] for run in runs])
            except ConfigError:
                raise
            except Exception as error:  # any exception of a transform that takes no such image
                raise ConfigError(f"{self._refusal}: {error}; {_HINT}") from error

    def _run(self, image: Any, geometry_only: bool = False) -> dict[str, Any]:
        with track_image(image, geometry_only) as tracker:
            views = self.transform(image)
        locations = [
            tracker.location(view) for view in tree_leaves(views, is_image) if _is_view(view)
        ]
        if all(location is None for location in locations):
            raise ConfigError(f"{self._refusal}; {_HINT}")
        known = [location or UNKNOWN for location in locations]
        boxes = torch.tensor([each.box for each in known], dtype=torch.float32, device="cpu")
        flips = torch.tensor([each.flips for each in known], dtype=torch.float32, device="cpu")
        return {"views": views, "sp": {"boxes": boxes, "flips": flips}}

    @property
    def _refusal(self) -> str:
        name = getattr(self.original, "__name__", type(self.original).__name__)
        return f"source: got 'host_views', but no view of {name} can be located in its image"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tracker": None}  # a copy does not own the tracking

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.original!r})"


def _is_view(image: Any) -> bool:
    """Whether an image is a view: tensors of another channel count (masks) are not."""
    is_tensor = isinstance(image, Tensor)
    return not is_tensor or (image.shape[0] == IMAGE_CHANNELS and image.is_floating_point())
