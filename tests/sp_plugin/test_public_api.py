"""Public names of the package, and the packages that importing it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sp_plugin

_FRAMEWORKS = (
    "omegaconf",
    "hydra",
    "mmengine",
    "mmcv",
    "lightning",
    "pytorch_lightning",
    "lightly",
    "timm",
    "torchvision",
    "transformers",
    "PIL",
    "scipy",
    "sklearn",
)


# Fails where the import changes a global generator.
_IMPORT = (
    "import random, torch; before = random.getstate(), torch.get_rng_state().tolist();"
    "import sp_plugin; assert before == (random.getstate(), torch.get_rng_state().tolist())"
)


def _loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    process = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(sp_plugin.__file__).parents[1],
    )
    return set(process.stdout.split())


def test_import_loads_only_torch():
    loaded = _loaded_by(_IMPORT)
    assert not loaded & set(_FRAMEWORKS)
    third_party = loaded - set(sys.stdlib_module_names) - _loaded_by("import torch")
    assert third_party == {"sp_plugin"}


def test_public_names_have_docstrings():
    for name in sp_plugin.__all__:
        assert getattr(sp_plugin, name).__doc__, name
    # Constants first, as ruff sorts them.
    assert sp_plugin.__all__ == sorted(
        sp_plugin.__all__, key=lambda name: (not name.isupper(), name)
    )


def test_version_is_a_release():
    assert all(part.isdigit() for part in sp_plugin.__version__.split("."))
