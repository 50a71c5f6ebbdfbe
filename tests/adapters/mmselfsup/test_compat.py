"""Each repair: its fault is there without us, gone with us, once, and only where it is found."""

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
from sp_mmselfsup.patches import PATCHES, apply_patches


def in_a_fresh_process(code: str) -> str:
    """What it prints: faults are mended for good in a process."""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout


BUILD = (
    "import sys; from mmengine.registry import MODELS, DefaultScope\n"
    "import sp_mmselfsup; from sp_mmselfsup.patches import repair\n"
    "net = dict(type='ResNet', depth=18)\n"
    "scope = {scope!r}; DefaultScope.get_instance('x', scope_name=scope)\n"
    "host = MODELS.build(dict(type={kind!r}, backbone=net, neck=None, head=None))\n"
)


def test_each_is_made_once_and_named() -> None:
    told = in_a_fresh_process(
        BUILD.format(scope="mmselfsup", kind="SimCLR")
        + "import mmselfsup.datasets\nprint(repair(host), repair(host))"
    )
    first, second = told.splitlines()[-1].split("] [")
    assert second == "]"
    for fault in ("name modules", "adjust_hue", "checkpoints", "default_collate"):
        assert first.count(fault) == 1, fault
    assert "PixMIM" not in first and "DeepCluster" not in first


def test_nothing_is_drawn_from_the_hosts_generators() -> None:
    in_a_fresh_process(
        BUILD.format(scope="mmselfsup", kind="SimCLR")
        + "import random, numpy, torch, mmselfsup.datasets\n"
        "def states():\n"
        "    numpys = str(numpy.random.get_state())\n"
        "    return random.getstate(), numpys, torch.get_rng_state().tolist()\n"
        "before = states(); assert len(repair(host)) == 4; assert states() == before"
    )


def test_a_host_that_is_not_loaded_is_left_alone() -> None:
    told = in_a_fresh_process(
        BUILD.format(scope="mmpretrain", kind="SimCLR")
        + "print(repair(host)); assert 'mmselfsup' not in sys.modules\n"
        "assert 'mmcls' not in sys.modules"
    )
    assert "mmselfsup" not in told.splitlines()[-1] and "PixMIM" not in told.splitlines()[-1]


def test_the_log_says_each_in_one_line(monkeypatch: Any) -> None:
    fault = PATCHES[0]._replace(found=lambda host: True, mend=lambda host: None)
    monkeypatch.setattr("sp_mmselfsup.patches.REPAIRS", (fault,))
    lines: list[str] = []
    logger = MMLogger.get_instance("compat-test")
    monkeypatch.setattr(logger, "handle", lambda record: lines.append(record.getMessage()))
    apply_patches(torch.nn.Linear(1, 1))
    assert lines == [f"SP: repaired: {fault.what}"]


def test_a_registry_of_mmselfsup_forgets_only_what_is_missing() -> None:
    import mmselfsup.registry as registries
    from mmselfsup.models import SimCLR

    host = SimCLR(backbone={"type": "ResNet", "depth": 18}, neck=None, head=None)
    apply_patches(host)
    assert not patch_rules.has_missing_locations(host)
    before = list(registries.HOOKS._locations)
    registries.LOOPS._locations.append("mmselfsup.not_there")
    assert patch_rules.has_missing_locations(host)
    patch_rules.drop_missing_locations(host)
    assert "mmselfsup.not_there" not in registries.LOOPS._locations
    assert registries.HOOKS._locations == before


def test_hue_wraps_around_as_it_did() -> None:
    import mmcv

    apply_patches(torch.nn.Linear(1, 1))
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    for backend in ("cv2", "pillow"):
        back = mmcv.adjust_hue(image, -0.5, backend=backend)
        there = mmcv.adjust_hue(image, 0.5, backend=backend)  # 127 of 256 hues forth, and back
        assert back.dtype == np.uint8 and not np.array_equal(back, image)
        assert np.abs(back.astype(int) - there.astype(int)).mean() < 6
    grey = np.full((2, 2, 3), 90, np.uint8)
    assert np.array_equal(mmcv.adjust_hue(grey, -0.3), grey)
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 2] = 255
    assert mmcv.adjust_hue(red, -1 / 3 - 0.003)[0, 0].argmax() == 0  # a third back is blue, in BGR


def test_own_checkpoints_load_and_others_are_still_refused(tmp_path: Path) -> None:
    apply_patches(torch.nn.Linear(1, 1))
    kept = {"hub": HistoryBuffer([1.0], [1]), "n": np.float64(2), "w": torch.ones(2)}
    torch.save(kept, tmp_path / "own.pth")
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / "own.pth"), "cpu", logger="silent")
    assert loaded["hub"].mean() == 1.0 and loaded["n"] == 2
    torch.save({"path": Path("x")}, tmp_path / "other.pth")
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(str(tmp_path / "other.pth"), "cpu", logger="silent")


def test_collate_leaves_a_scope_aside() -> None:
    apply_patches(torch.nn.Linear(1, 1))
    collate = FUNCTIONS.get("default_collate")
    assert torch.equal(collate([torch.ones(2)] * 3, _scope_="mmselfsup"), torch.ones(3, 2))
    assert default_collate is not collate
    with pytest.raises(TypeError):
        collate([torch.ones(2)], scope="mmselfsup")


def test_pixmims_pictures_keep_their_channels() -> None:
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


def test_a_mended_library_is_left_alone() -> None:
    """In this process all is mended by now: what is found then is nothing."""
    host = torch.nn.Linear(1, 1)
    apply_patches(host)
    assert apply_patches(host) == []
