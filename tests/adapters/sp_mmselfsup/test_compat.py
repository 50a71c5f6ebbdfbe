"""Each patch: its fault exists, is gone afterwards, and is patched once, only where it exists."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.registry import FUNCTIONS
from mmengine.runner import CheckpointLoader
from sp_mmselfsup import patch_rules
from sp_mmselfsup.patch_list import PATCHES, apply_patches


def run_in_subprocess(code: str) -> str:
    """Output of code in a new process: patches stay for the life of a process."""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


BUILD = (
    "import sys; from mmengine.registry import MODELS, DefaultScope\n"
    "import sp_mmselfsup; from sp_mmselfsup.patch_list import apply_patches\n"
    "net = dict(type='ResNet', depth=18)\n"
    "scope = {scope!r}; DefaultScope.get_instance('x', scope_name=scope)\n"
    "algorithm = MODELS.build(dict(type={kind!r}, backbone=net, neck=None, head=None))\n"
)


def test_each_patch_applies_once() -> None:
    output = run_in_subprocess(
        BUILD.format(scope="mmselfsup", kind="SimCLR")
        + "import mmselfsup.datasets\nprint(apply_patches(algorithm), apply_patches(algorithm))"
    )
    first, second = output.splitlines()[-1].split("] [")
    assert second == "]"
    for fault in ("name modules", "adjust_hue", "checkpoints", "default_collate"):
        assert first.count(fault) == 1, fault
    assert "PixMIM" not in first and "DeepCluster" not in first


@pytest.mark.parametrize("scope", ["mmselfsup", "mmpretrain"])
def test_import_alone_patches_a_baseline(scope: str) -> None:
    output = run_in_subprocess(
        BUILD.format(scope=scope, kind="SimCLR").replace(
            "import sp_mmselfsup;", "import mmcv, sp_mmselfsup.patches;"
        )
        + "assert type(algorithm).__name__ == 'SimCLR'\n"
        "print(apply_patches(algorithm) == [], 'mmselfsup' in sys.modules)"
    )
    assert output.splitlines()[-1] == f"True {scope == 'mmselfsup'}"
    assert output.count("adjust_hue takes no negative hue") == 1


def test_patches_draw_no_random_numbers() -> None:
    run_in_subprocess(
        BUILD.format(scope="mmselfsup", kind="SimCLR")
        + "import random, numpy, torch, mmselfsup.datasets\n"
        "def states():\n"
        "    numpys = str(numpy.random.get_state())\n"
        "    return random.getstate(), numpys, torch.get_rng_state().tolist()\n"
        "before = states(); assert len(apply_patches(algorithm)) == 4; assert states() == before"
    )


def test_unloaded_framework_is_not_patched() -> None:
    output = run_in_subprocess(
        BUILD.format(scope="mmpretrain", kind="SimCLR")
        + "print(apply_patches(algorithm)); assert 'mmselfsup' not in sys.modules\n"
        "assert 'mmcls' not in sys.modules"
    )
    assert "mmselfsup" not in output.splitlines()[-1] and "PixMIM" not in output.splitlines()[-1]


def test_each_patch_logs_one_line(monkeypatch: Any) -> None:
    patch = PATCHES[0]._replace(is_needed=lambda _: True, apply=lambda _: None)
    monkeypatch.setattr("sp_mmselfsup.patch_list.PATCHES", (patch,))
    lines: list[str] = []
    logger = MMLogger.get_instance("compat-test")
    monkeypatch.setattr(logger, "handle", lambda record: lines.append(record.getMessage()))
    apply_patches(torch.nn.Linear(1, 1))
    assert lines == [f"SP: patched: {patch.description}"]


def test_registry_drops_missing_modules() -> None:
    import mmselfsup.registry as registries
    from mmselfsup.models import SimCLR

    algorithm = SimCLR(backbone={"type": "ResNet", "depth": 18}, neck=None, head=None)
    apply_patches(algorithm)
    assert not patch_rules.has_missing_modules(algorithm)
    before = list(registries.HOOKS._locations)
    registries.LOOPS._locations.append("mmselfsup.not_there")
    assert patch_rules.has_missing_modules(algorithm)
    patch_rules.patch_missing_modules(algorithm)
    assert "mmselfsup.not_there" not in registries.LOOPS._locations
    assert registries.HOOKS._locations == before


def test_adjust_hue_wraps_around() -> None:
    import mmcv

    apply_patches(torch.nn.Linear(1, 1))
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    for backend in ("cv2", "pillow"):
        # 127 of 256 hues, in both directions.
        backward = mmcv.adjust_hue(image, -0.5, backend=backend)
        forward = mmcv.adjust_hue(image, 0.5, backend=backend)
        assert backward.dtype == np.uint8 and not np.array_equal(backward, image)
        assert np.abs(backward.astype(int) - forward.astype(int)).mean() < 6
    grey = np.full((2, 2, 3), 90, np.uint8)
    assert np.array_equal(mmcv.adjust_hue(grey, -0.3), grey)
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 2] = 255
    blue = mmcv.adjust_hue(red, -1 / 3 - 0.003)  # a third of the circle away, in BGR
    assert blue[0, 0].argmax() == 0


def test_only_mmengine_checkpoints_load(tmp_path: Path) -> None:
    apply_patches(torch.nn.Linear(1, 1))
    saved = {"hub": HistoryBuffer([1.0], [1]), "n": np.float64(2), "w": torch.ones(2)}
    torch.save(saved, tmp_path / "own.pth")
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / "own.pth"), "cpu", logger="silent")
    assert loaded["hub"].mean() == 1.0 and loaded["n"] == 2
    torch.save({"path": Path("x")}, tmp_path / "other.pth")
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(str(tmp_path / "other.pth"), "cpu", logger="silent")


def test_collate_ignores_scope_argument() -> None:
    apply_patches(torch.nn.Linear(1, 1))
    collate = FUNCTIONS.get("default_collate")
    assert torch.equal(collate([torch.ones(2)] * 3, _scope_="mmselfsup"), torch.ones(3, 2))
    assert default_collate is not collate
    with pytest.raises(TypeError):
        collate([torch.ones(2)], scope="mmselfsup")


def test_pixmim_images_keep_channel_order() -> None:
    from mmcls.registry import TRANSFORMS
    from sp_mmselfsup import pixmim_transforms

    pixmim_transforms.register()
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    results = {"img": image}
    results = TRANSFORMS.build({"type": "mmcls.ToPIL", "to_rgb": True})(results)
    assert results["img"].getpixel((0, 0)) == tuple(image[0, 0, ::-1])
    results = TRANSFORMS.build({"type": "mmcls.torchvision/Resize", "size": (8, 9)})(results)
    results = TRANSFORMS.build({"type": "mmcls.ToNumpy", "to_rgb": True})(results)
    assert np.array_equal(results["img"], image)


def test_patched_library_is_not_repatched() -> None:
    algorithm = torch.nn.Linear(1, 1)
    apply_patches(algorithm)
    assert apply_patches(algorithm) == []
