"""Rules of the patches in `sp_mmselfsup.patch_list`: for each fault, a check and a patch."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.dist import is_distributed
from mmengine.logging import HistoryBuffer
from mmengine.registry import FUNCTIONS
from mmengine.runner import CheckpointLoader, Runner


def _is_from(framework: str, algorithm: Any, *class_names: str) -> bool:
    """Whether an algorithm is an instance of a framework's class, of the named ones if any are."""
    return any(
        cls.__module__.partition(".")[0] == framework
        and (not class_names or cls.__name__ in class_names)
        for cls in type(algorithm).__mro__
    )


# mmselfsup/registry.py of the released 1.0.0: 'mmselfsup.engine.runner', which mmengine >= 0.8
# imports when the training loop is built.


def has_missing_modules(algorithm: Any) -> bool:
    """Whether a registry names a module that does not exist."""
    return any(missing for _, missing in _missing_modules(algorithm))


def patch_missing_modules(algorithm: Any) -> None:
    """Remove these modules from the registries' locations."""
    for registry, missing in _missing_modules(algorithm):
        registry._locations = [name for name in registry._locations if name not in missing]


def _missing_modules(algorithm: Any) -> Iterator[tuple[Any, list[str]]]:
    """Registries of mmselfsup, each with its modules that do not exist."""
    if not _is_from("mmselfsup", algorithm):
        return
    registries = importlib.import_module("mmselfsup.registry")
    for name in registries.__all__:
        registry = getattr(registries, name)
        yield registry, [at for at in registry._locations if importlib.util.find_spec(at) is None]


# mmcv/image/photometric.py, adjust_hue: np.uint8(hue_factor * 255) wraps around up to NumPy 1.


def has_hue_overflow(algorithm: Any) -> bool:
    """Whether mmcv's ``adjust_hue`` fails on a negative hue."""
    mmcv = sys.modules.get("mmcv")
    if mmcv is None:
        return False
    try:
        mmcv.adjust_hue(np.zeros((1, 1, 3), np.uint8), -0.1)
    except OverflowError:
        return True
    return False


def patch_hue_overflow(algorithm: Any) -> None:
    """Replace ``adjust_hue`` in all modules that imported it."""
    original = sys.modules["mmcv"].adjust_hue

    def adjust_hue(image: Any, hue_factor: float, backend: str | None = None) -> Any:
        # A NumPy scalar is cast as in C, where a Python number is refused.
        return original(image, np.float64(hue_factor), backend)

    for name, module in list(sys.modules.items()):
        if name.startswith("mm") and vars(module).get("adjust_hue") is original:
            module.adjust_hue = adjust_hue  # type: ignore[attr-defined]


# mmengine/runner/checkpoint.py, load_from_local: torch.load without weights_only, whose default
# is True from torch 2.6 on; checkpoints contain the message hub's buffers.


def has_refused_checkpoints(algorithm: Any) -> bool:
    """Whether MMEngine cannot load a checkpoint that it has saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "checkpoint.pth")
        torch.save({"message_hub": HistoryBuffer([0.0], [1]), "steps": np.arange(2)}, path)
        try:
            CheckpointLoader.load_checkpoint(str(path), "cpu", logger="silent")
        except pickle.UnpicklingError:
            return True
    return False


def patch_refused_checkpoints(algorithm: Any) -> None:
    """Load local checkpoints with MMEngine's own classes allowed."""
    CheckpointLoader.register_scheme(prefixes="", loader=_load_from_local, force=True)


def _load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a local checkpoint: weights and what MMEngine itself saves with them, nothing else."""
    array = np.zeros(1)
    dtypes = [type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "u1", "u4", "?")]
    rebuild: list[Any] = [array.__reduce__()[0], array[0].__reduce__()[0]]
    # A buffer names its own methods (getattr); what that returns may not be called.
    allowed: list[Any] = [HistoryBuffer, getattr, np.ndarray, np.dtype, *rebuild, *dtypes]
    with torch.serialization.safe_globals(allowed):
        return torch.load(Path(filename).expanduser(), map_location=map_location)


# mmengine/runner/runner.py, build_dataloader, passes all keys of collate_fn's config but 'type';
# mmengine/config/config.py, _parse_scope, adds '_scope_' to configs of another package.


def has_refused_scope(algorithm: Any) -> bool:
    """Whether a collate function fails on the key ``_scope_``."""
    loader = Runner.build_dataloader(
        {
            "dataset": [0],
            "batch_size": 1,
            "sampler": torch.utils.data.SequentialSampler([0]),
            "collate_fn": {"type": "default_collate", "_scope_": "mmengine"},
        }
    )
    try:
        loader.collate_fn([torch.zeros(1)])
    except TypeError:
        return True
    return False


def patch_refused_scope(algorithm: Any) -> None:
    """Register a ``default_collate`` that ignores the scope."""
    FUNCTIONS.register_module(name="default_collate", force=True, module=_collate_without_scope)


def _collate_without_scope(batch: Any, _scope_: str | None = None) -> Any:
    return default_collate(batch)


# mmselfsup/.mim/configs/selfsup/pixmim sets mmcls.ToPIL(to_rgb=True), which mmcls 1.0.0rc6 does
# not have (mmcls/datasets/transforms/formatting.py), mmcls.torchvision/Resize and others.


def has_missing_transforms(algorithm: Any) -> bool:
    """Whether mmcls lacks the transforms of PixMIM's config."""
    if not _is_from("mmselfsup", algorithm, "PixMIM"):
        return False
    transforms = importlib.import_module("mmcls.datasets.transforms.formatting").TRANSFORMS
    try:
        transforms.build({"type": "mmcls.ToPIL", "to_rgb": True})
    except TypeError:
        return True
    return False


def patch_missing_transforms(algorithm: Any) -> None:
    """Register these transforms."""
    from sp_mmselfsup import pixmim_transforms

    pixmim_transforms.register()


# mmselfsup/engine/hooks/deepcluster_hook.py and odc_hook.py: runner.model.module.


def has_missing_wrapper(algorithm: Any) -> bool:
    """Whether a hook looks for a DDP wrapper that is not there."""
    return (
        not hasattr(algorithm, "module")
        and not is_distributed()
        and _is_from("mmselfsup", algorithm, "ODC", "DeepCluster")
    )


def patch_missing_wrapper(algorithm: Any) -> None:
    """Make the algorithm its own ``module``: not a submodule, which would be an endless loop."""
    vars(algorithm)["module"] = algorithm
