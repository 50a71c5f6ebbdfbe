"""How each fault in `sp_mmselfsup.patches` is found and mended; a pair of functions for each."""

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


def is_of(host: str, algorithm: Any, *names: str) -> bool:
    """Whether an algorithm is one of a host's, or a user's subclass of one; of these, if named."""
    return any(
        cls.__module__.partition(".")[0] == host and (not names or cls.__name__ in names)
        for cls in type(algorithm).__mro__
    )


# mmselfsup/registry.py of the released 1.0.0: 'mmselfsup.engine.runner', which mmengine >= 0.8
# imports when the training loop is built.


def has_missing_locations(host: Any) -> bool:
    return any(missing for _, missing in _missing_locations(host))


def drop_missing_locations(host: Any) -> None:
    for registry, missing in _missing_locations(host):
        registry._locations = [name for name in registry._locations if name not in missing]


def _missing_locations(host: Any) -> Iterator[tuple[Any, list[str]]]:
    if not is_of("mmselfsup", host):
        return
    registries = importlib.import_module("mmselfsup.registry")
    for name in registries.__all__:
        registry = getattr(registries, name)
        yield registry, [at for at in registry._locations if importlib.util.find_spec(at) is None]


# mmcv/image/color_transform.py, adjust_hue: np.uint8(hue_factor * 255) wraps around up to NumPy 1.


def hue_overflows(host: Any) -> bool:
    mmcv = sys.modules.get("mmcv")
    if mmcv is None:
        return False
    try:
        mmcv.adjust_hue(np.zeros((1, 1, 3), np.uint8), -0.1)
    except OverflowError:
        return True
    return False


def mend_hue(host: Any) -> None:
    """Put an ``adjust_hue`` that wraps around wherever the host has the one that does not."""
    faulty = sys.modules["mmcv"].adjust_hue

    def adjust_hue(image: Any, hue_factor: float, backend: str | None = None) -> Any:
        # A scalar of NumPy is cast as in C, where a number of Python is refused.
        return faulty(image, np.float64(hue_factor), backend)

    for name, module in list(sys.modules.items()):
        if name.startswith("mm") and vars(module).get("adjust_hue") is faulty:
            module.adjust_hue = adjust_hue  # type: ignore[attr-defined]


# mmengine/runner/checkpoint.py, load_from_local: torch.load without weights_only, whose default
# is True from torch 2.6 on; checkpoints hold the message hub's buffers.


def checkpoints_are_refused(host: Any) -> bool:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "checkpoint.pth")
        torch.save({"message_hub": HistoryBuffer([0.0], [1]), "steps": np.arange(2)}, path)
        try:
            CheckpointLoader.load_checkpoint(str(path), "cpu", logger="silent")
        except pickle.UnpicklingError:
            return True
    return False


def allow_checkpoints(host: Any) -> None:
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """A local checkpoint: weights, and what MMEngine itself puts beside them; nothing else."""
    array = np.zeros(1)
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "u4", "?")]
    rebuild: list[Any] = [array.__reduce__()[0], array[0].__reduce__()[0]]
    # A buffer names its own methods (getattr); what that gives may not be called.
    named: list[Any] = [HistoryBuffer, getattr, np.ndarray, np.dtype, *rebuild, *kinds]
    with torch.serialization.safe_globals(named):
        return torch.load(Path(filename).expanduser(), map_location=map_location)


# mmengine/runner/runner.py, build_dataloader, passes all keys of collate_fn's config but 'type';
# mmengine/config/config.py, _parse_scope, adds '_scope_' to what comes from another package.


def collate_refuses_scope(host: Any) -> bool:
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


def mend_collate(host: Any) -> None:
    FUNCTIONS.register_module(name="default_collate", force=True, module=collate_in_scope)


def collate_in_scope(batch: Any, _scope_: str | None = None) -> Any:
    """MMEngine's ``default_collate``, which leaves the name of a scope aside."""
    return default_collate(batch)


# mmselfsup/.mim/configs/selfsup/pixmim sets mmcls.ToPIL(to_rgb=True), which mmcls 1.0.0rc6 does
# not know (mmcls/datasets/transforms/pixmim_transforms.py), and mmcls.torchvision/Resize and others.


def no_to_rgb(host: Any) -> bool:
    if not is_of("mmselfsup", host, "PixMIM"):
        return False
    transforms = importlib.import_module("mmcls.datasets.transforms.formatting").TRANSFORMS
    try:
        transforms.build({"type": "mmcls.ToPIL", "to_rgb": True})
    except TypeError:
        return True
    return False


def add_to_rgb(host: Any) -> None:
    from sp_mmselfsup import pixmim_transforms

    pixmim_transforms.register()


# mmselfsup/engine/hooks/deepcluster_hook.py and odc_hook.py: runner.model.module.


def wants_wrapper(host: Any) -> bool:
    return (
        not hasattr(host, "module")
        and not is_distributed()
        and is_of("mmselfsup", host, "ODC", "DeepCluster")
    )


def stand_in_for_wrapper(host: Any) -> None:
    """The algorithm answers as its own ``module``: not as a part, which would have no end."""
    vars(host)["module"] = host
