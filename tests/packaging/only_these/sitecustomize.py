"""Imported by Python when it starts: hides all installed modules but those of ONLY_MODULES."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from typing import Any


class HiddenModules:
    """Finds what `PathFinder` finds, except hidden top-level modules of site-packages."""

    def __init__(self, visible: set[str]) -> None:
        self.visible = visible

    def __getattr__(self, name: str) -> Any:  # invalidate_caches, find_distributions
        return getattr(PathFinder, name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if path is None and name not in self.visible:
            path = [at for at in sys.path if not at.endswith("site-packages")]
        return PathFinder.find_spec(name, path, target)


if "ONLY_MODULES" in os.environ:
    finder = HiddenModules(set(os.environ["ONLY_MODULES"].split()))
    sys.meta_path[:] = [finder if at is PathFinder else at for at in sys.meta_path]
