"""The patches alone, for a baseline without SP.

With ``custom_imports = dict(imports=["sp_mmselfsup.patches"])`` each algorithm that a Runner builds
gets the patches that it needs (`sp_mmselfsup.patch_list`), and nothing of SP. `SPAlgorithm` applies
them by itself and does not need this module.
"""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS

from sp_mmselfsup.patch_list import apply_patches

__all__ = ["BuildAndPatch"]


class BuildAndPatch:
    """Build function of MMEngine's registry of models that patches what an algorithm needs.

    Args:
        build: build function that it stands for.
    """

    def __init__(self, build: Any) -> None:
        self.build = build

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Build as without it; backbones and heads are no ``BaseModel``, only algorithms are."""
        built = self.build(*args, **kwargs)
        if isinstance(built, BaseModel):
            apply_patches(built)
        return built


if not isinstance(MODELS.build_func, BuildAndPatch):
    MODELS.build_func = BuildAndPatch(MODELS.build_func)
