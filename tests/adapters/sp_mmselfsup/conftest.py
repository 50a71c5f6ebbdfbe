"""MMSelfSup and MMPretrain themselves, trained on a folder of six images."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmengine", reason="pip install sp-plugin[mmselfsup]")

import mm_configs

Train = Callable[..., Any]


@pytest.fixture(autouse=True)
def _fresh_visualizer() -> Iterator[None]:
    """MMEngine keeps one Visualizer for each name, with the folder of the first run."""
    from mmengine.visualization import Visualizer

    yield
    for cls in (Visualizer, *Visualizer.__subclasses__()):  # each has its own
        cls._instance_dict.clear()


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mm_configs.make_images(tmp_path_factory.mktemp("data"), 2 * mm_configs.STEPS)


@pytest.fixture
def image_info(data: Path) -> dict[str, Any]:
    """A data set's entry for one of them."""
    return {"img_path": str(data / "train" / "class0" / "0.png"), "gt_label": 0}


@pytest.fixture(scope="session")
def transforms() -> None:
    """Register the transforms of both frameworks, and patch them."""
    from sp_mmselfsup import patch_rules

    for framework in ("mmpretrain", "mmselfsup"):
        importlib.import_module(f"{framework}.datasets")
    if patch_rules.has_hue_overflow(None):  # otherwise patched where an algorithm is built
        patch_rules.patch_hue_overflow(None)


@pytest.fixture(scope="session")
def train(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train one of `mm_configs.SMALL` for three steps, with SP if there are settings."""

    def run(
        name: str,
        sp: dict[str, Any] | None = None,
        change: Callable[[Any], None] | None = None,
        framework: str = "mmselfsup",
        sp_hook: Any = None,
    ) -> Any:
        config = mm_configs.small(framework, name, data, tmp_path_factory.mktemp(name))
        if change is not None:
            change(config)
        return mm_configs.trained(
            config if sp is None else mm_configs.with_sp(config, **sp), sp_hook
        )

    return run
