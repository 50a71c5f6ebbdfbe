"""ViewBoxTransform: the method's transform, with the location of each view recorded as it is made.

With ``source="host_views"`` SP samples no crops and encodes none: it uses views that the method
makes and encodes anyway. The transform of the data set then has to provide where they lie.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from typing import Any

import torch
from torch import Tensor

from sp_plugin.crops.images import is_image
from sp_plugin.crops.samples import find_image, without_masks
from sp_plugin.isolation import private_rng
from sp_plugin.nested import tree_leaves
from sp_plugin.structures import add_sp_part
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

    def __call__(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        """Make views of an image.

        Args:
            image: a PIL image or a tensor (C, H, W); or a mapping with one, see
                `sp_plugin.crops.samples.find_image`.
            *args: more for the method's transform, such as a target.
            **kwargs: likewise.

        Returns:
            ``views``, and under ``sp``: ``boxes`` (V, 4) and ``flips`` (V, 2); see
            `sp_plugin.structures.ViewBoxes`. Where the method's transform gets more than an image
            and returns a tuple, such as (views, target), that tuple with its first entry replaced
            by this.
        """
        views, sp = self._run(image, *args, **kwargs)
        return add_sp_part(views, sp, bool(args or kwargs))

    def sample_boxes(self, n: int = _NUM_RUNS, seed: int = 0) -> Tensor:
        """Boxes of ``n`` runs on a blank square image; the host's generators stay as they were.

        The runs are those of a copy: a transform may have a generator of its own. Transforms that
        neither crop nor flip are left out.

        Returns:
            (n, V, 4).

        Raises:
            ConfigError: no view can be located, or the transform takes no blank image.
        """
        runner = self
        if not inspect.ismethod(self.original):  # of a data set perhaps, with all its images
            with contextlib.suppress(Exception):  # any, of one that cannot be copied
                runner = copy.deepcopy(self)
        blank = torch.zeros(3, 1, 1, device="cpu").expand(3, _BLANK_SIDE, _BLANK_SIDE)
        targets = [None] * _num_required(self.original)
        errors: list[Exception] = []
        for as_mapping in (False, True):
            with private_rng(seed):
                try:
                    samples = ({"image": blank} if as_mapping else blank for _ in range(n))
                    runs = [runner._run(one, *targets, geometry_only=True)[1] for one in samples]
                    return torch.stack([sp["boxes"] for sp in runs])
                except Exception as error:  # any, of a transform that takes no such sample
                    errors.append(error)
        if isinstance(errors[0], ConfigError):
            raise errors[0]
        raise ConfigError(f"{self._refusal}: {errors[0]}; {_HINT}") from errors[0]

    def _run(
        self, sample: Any, *args: Any, geometry_only: bool = False, **kwargs: Any
    ) -> tuple[Any, dict[str, Tensor]]:
        """What the transform returns, and the locations of the views in it."""
        image = find_image(sample)
        with track_image(image, geometry_only) as tracker:
            views = self.transform(sample, *args, **kwargs)
        found = [view for view in tree_leaves(views, is_image) if _may_be_view(view)]
        locations = [tracker.location(view) for view in without_masks(found, image)]
        if all(location is None for location in locations):
            raise ConfigError(f"{self._refusal}; {_HINT}")
        known = [location or UNKNOWN for location in locations]
        boxes = torch.tensor([each.box for each in known], dtype=torch.float32, device="cpu")
        flips = torch.tensor([each.flips for each in known], dtype=torch.float32, device="cpu")
        return views, {"boxes": boxes, "flips": flips}

    @property
    def _refusal(self) -> str:
        name = getattr(self.original, "__name__", type(self.original).__name__)
        return f"source: got 'host_views', but no view of {name} can be located in its image"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tracker": None}  # a copy does not own the tracking

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.original!r})"


def _num_required(transform: Any) -> int:
    """Number of positional arguments after the image that a transform must get."""
    try:
        parameters = inspect.signature(transform).parameters.values()
    except (TypeError, ValueError):  # no signature
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return max(0, len(required) - 1)


def _may_be_view(image: Any) -> bool:
    return not isinstance(image, Tensor) or image.is_floating_point()
