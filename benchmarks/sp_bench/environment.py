"""Versions and hardware of a comparison, for judging its times and for repeating it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

_PACKAGES = (
    "sp-plugin", "torch", "torchvision", "lightly", "pytorch-lightning", "timm", "numpy",
    "scikit-learn", "scipy", "pillow", "kornia",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that metrics depend on.

    >>> "torch" in versions()
    True
    """
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), **installed}


def machine(precision: str) -> dict[str, Any]:
    """Processor, cores, device and precision, without names of the machine or its user."""
    gpu = torch.cuda.is_available()
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": str(capabilities.get("cpu_name") or platform.processor() or "unknown"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "precision": precision,
    }
