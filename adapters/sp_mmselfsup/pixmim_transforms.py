"""Transforms that mmselfsup's config of PixMIM names and mmcls 1.0.0rc6, its last, does not have.

``mmcls.ToPIL`` and ``mmcls.ToNumpy`` with ``to_rgb``, and torchvision's as ``torchvision/<Name>``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcls.datasets.transforms import ToNumpy as HostToNumpy
from mmcls.datasets.transforms import ToPIL as HostToPIL
from mmcls.registry import TRANSFORMS
from PIL import Image
from torchvision.transforms import transforms as torchvision


class ToPIL(HostToPIL):
    """As mmcls', and from BGR to RGB where ``to_rgb`` is set."""

    def __init__(self, to_rgb: bool = False) -> None:
        self.to_rgb = to_rgb

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results["img"]
        results["img"] = Image.fromarray(
            np.ascontiguousarray(image[..., :: -1 if self.to_rgb else 1])
        )
        return results


class ToNumpy(HostToNumpy):
    """As mmcls', and from RGB back to BGR where ``to_rgb`` is set: the channels are reversed."""

    def __init__(self, keys: Any = ("img",), dtype: Any = None, to_rgb: bool = False) -> None:
        super().__init__(keys, dtype)
        self.to_rgb = to_rgb

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        super().transform(results)
        for key in self.keys if self.to_rgb else ():
            results[key] = np.ascontiguousarray(results[key][..., ::-1])
        return results


class TorchvisionTransform:
    """A transform of torchvision for the image in ``results``; subclasses name it."""

    transform: Any = None

    def __init__(self, **settings: Any) -> None:
        self.chosen = type(self).transform(**settings)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        results["img"] = self.chosen(results["img"])
        return results

    def __repr__(self) -> str:
        return repr(self.chosen)


def register() -> None:
    """Put both in the place of mmcls' own, and torchvision's beside them."""
    TRANSFORMS.register_module(force=True, module=ToPIL)
    TRANSFORMS.register_module(force=True, module=ToNumpy)
    for name in torchvision.__all__:
        kind = {"transform": getattr(torchvision, name), "__module__": __name__}
        wrapped = type(name, (TorchvisionTransform,), kind)
        TRANSFORMS.register_module(name=f"torchvision/{name}", module=wrapped)
