"""The hosts, real ones, on a folder of six images."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

mm_hosts = pytest.importorskip("mm_hosts", reason="pip install sp-plugin[mmselfsup]")

Train = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_visualizer() -> Iterator[None]:
    """MMEngine keeps one Visualizer a name, and with it the folder of the first run."""
    from mmengine.visualization import Visualizer

    yield
    for cls in (Visualizer, *Visualizer.__subclasses__()):  # each keeps its own
        cls._instance_dict.clear()


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mm_hosts.images(tmp_path_factory.mktemp("data"), 2 * mm_hosts.STEPS)


@pytest.fixture
def image_info(data: Path) -> dict[str, Any]:
    """What a data set tells of one of them."""
    return {"img_path": str(data / "train" / "class0" / "0.png"), "gt_label": 0}


@pytest.fixture(scope="session")
def transforms() -> None:
    """Both hosts' transforms are registered, and work."""
    from sp_mmselfsup import patch_rules

    for host in ("mmpretrain", "mmselfsup"):
        importlib.import_module(f"{host}.datasets")
    if patch_rules.hue_overflows(None):  # mended where an algorithm is built
        patch_rules.mend_hue(None)


@pytest.fixture(scope="session")
def train(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train an algorithm of `mm_hosts.SMALL` for three steps, with SP if it has settings."""

    def run(
        name: str,
        sp: dict[str, Any] | None = None,
        change: Callable[[Any], None] | None = None,
        host: str = "mmselfsup",
        watch: Any = None,
    ) -> Any:
        config = mm_hosts.small(host, name, data, tmp_path_factory.mktemp(name))
        if change is not None:
            change(config)
        return mm_hosts.trained(config if sp is None else mm_hosts.with_sp(config, **sp), watch)

    return run
