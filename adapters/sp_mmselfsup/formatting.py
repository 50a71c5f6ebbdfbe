"""To PIL and back with a change of channel order, for configs that ask for it by ``to_rgb``."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcls.datasets.transforms import ToNumpy as HostToNumpy
from mmcls.datasets.transforms import ToPIL as HostToPIL
from mmcls.registry import TRANSFORMS
from PIL import Image


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


def register() -> None:
    """Put both in the place of mmcls' own."""
    for cls in (ToPIL, ToNumpy):
        TRANSFORMS.register_module(force=True, module=cls)
