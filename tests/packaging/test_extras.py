"""Each extra alone is enough for its modules; without it one line says which one is missing."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import extras
import pytest

from sp_plugin.validation import MissingPackageError, needs_packages

ROOT = extras.ROOT
SOURCES = [ROOT, ROOT / "adapters", ROOT / "benchmarks"]
SLOW = dict.fromkeys(
    ("", "lightly", "bench", "solo", "transformers"), pytest.mark.slow
)  # many modules each


def run_with(extra: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the modules of an extra are installed and no others."""
    paths = [Path(__file__).parent / "only_these", *SOURCES]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONWARNINGS": "ignore",  # torch warns where NumPy is missing
        "ONLY_MODULES": " ".join(extras.visible_modules(extra)),
    }
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def module_names(extra: str) -> list[str]:
    """Modules of the packages that an extra is for."""
    names = []
    for folder in extras.FOLDERS[extra]:
        base = ROOT / folder
        if not (base / "__init__.py").exists():
            continue  # scripts, and hydra's namespace
        for path in sorted(base.rglob("*.py")):
            parts = path.relative_to(base.parent).with_suffix("").parts
            names.append(".".join(part for part in parts if part != "__init__"))
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("extra", extras.FOLDERS)
def test_extra_declares_what_it_imports(extra: str) -> None:
    declared = extras.declared(extra)
    missing = set()
    for folder in extras.FOLDERS[extra]:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for module in extras.imported_modules(path):
                owners = extras.distributions().get(module, {module})
                allowed = module in extras.OWN | extras.OPTIONAL.get(extra, set())
                if not allowed and not owners & declared:
                    missing.add(f"{path.relative_to(ROOT)}: {module}")
    assert not missing, "\n".join(sorted(missing))


@pytest.mark.parametrize(
    "extra", [pytest.param(name, marks=SLOW.get(name, ())) for name in extras.FOLDERS]
)
def test_modules_import_with_their_extra(extra: str) -> None:
    if missing := extras.declared(extra) - extras.installed_with(extra) - {"tomli", "kornia"}:
        pytest.skip(f"not installed here: {', '.join(sorted(missing))}")
    names = [name for name in module_names(extra) if name != "sp_plugin.crops.transform"]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    ran = run_with(extra, "-c", code)
    assert not ran.returncode, ran.stderr


def missing_line(name: str, package: str, install: str) -> str:
    return f'{name}: takes the package {package!r}, which is not installed; pip install "{install}"'


def test_missing_extra_is_named() -> None:
    code = (
        "from importlib import import_module\n"
        "for name in ('sp_lightly', 'sp_solo', 'sp_mmselfsup', 'sp_transformers',\n"
        "             'sp_plugin.crops.transform'):\n"
        "    try: import_module(name)\n"
        "    except ImportError as error: print(error)"
    )
    ran = run_with("", "-c", code)
    assert ran.stdout.splitlines() == [
        missing_line("sp_lightly", "torchvision", "sp-plugin[lightly]"),
        missing_line("sp_solo", "omegaconf", "sp-plugin[solo]"),
        missing_line("sp_mmselfsup", "mmengine", "sp-plugin[mmselfsup]"),
        missing_line("sp_transformers", "transformers", "sp-plugin[transformers]"),
        missing_line("sp_plugin.SPTransform", "torchvision", "torchvision"),
    ], ran.stderr


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("sp_mmselfsup", "mmengine", "mmselfsup"), ("sp_bench", "typer", "bench")],
)
def test_commands_print_one_line(module: str, package: str, extra: str) -> None:
    ran = run_with("", "-m", module)
    name = module.replace("sp_bench", "sp-bench")
    assert ran.returncode
    assert ran.stderr == missing_line(name, package, f"sp-plugin[{extra}]") + "\n"


def test_fault_of_a_package_stays() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, needs_packages("x", "y"):
        importlib.import_module("torch.not_there")
    assert not isinstance(caught.value, MissingPackageError)


def test_every_package_has_types() -> None:
    for package in extras.TYPED:
        (folder,) = [at / package for at in SOURCES if (at / package).is_dir()]
        assert (folder / "py.typed").exists(), package
