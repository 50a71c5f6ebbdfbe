"""Transforms that mmselfsup's config of PixMIM names and mmcls 1.0.0rc6, its last, does not have.

``mmcls.ToPIL`` and ``mmcls.ToNumpy`` with ``to_rgb``, and torchvision's as ``torchvision/<Name>``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcls.datasets import transforms as mmcls_transforms
from mmcls.registry import TRANSFORMS
from PIL import Image
from torchvision.transforms import transforms as torchvision

__all__ = ["ToNumpy", "ToPIL", "TorchvisionTransform", "register"]


class ToPIL(mmcls_transforms.ToPIL):
    """As in mmcls, with conversion from BGR to RGB where ``to_rgb`` is set."""

    def __init__(self, to_rgb: bool = False) -> None:
        self.to_rgb = to_rgb

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results["img"][..., :: -1 if self.to_rgb else 1]
        results["img"] = Image.fromarray(np.ascontiguousarray(image))
        return results


class ToNumpy(mmcls_transforms.ToNumpy):
    """As in mmcls, with conversion from RGB to BGR where ``to_rgb`` is set."""

    def __init__(self, keys: Any = ("img",), dtype: Any = None, to_rgb: bool = False) -> None:
        super().__init__(keys, dtype)
        self.to_rgb = to_rgb

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        super().transform(results)
        for key in self.keys if self.to_rgb else ():
            results[key] = np.ascontiguousarray(results[key][..., ::-1])
        return results


class TorchvisionTransform:
    """Applies a torchvision transform to ``results["img"]``; a subclass sets its class."""

    transform_class: Any = None

    def __init__(self, **settings: Any) -> None:
        self.transform = type(self).transform_class(**settings)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        results["img"] = self.transform(results["img"])
        return results

    def __repr__(self) -> str:
        return repr(self.transform)


def register() -> None:
    """Register both instead of mmcls' own, and those of torchvision."""
    TRANSFORMS.register_module(force=True, module=ToPIL)
    TRANSFORMS.register_module(force=True, module=ToNumpy)
    for name in torchvision.__all__:
        attributes = {"transform_class": getattr(torchvision, name), "__module__": __name__}
        subclass = type(name, (TorchvisionTransform,), attributes)
        TRANSFORMS.register_module(name=f"torchvision/{name}", module=subclass)
