"""The extras of pyproject.toml: what each declares, and what comes with it."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from release_check import TYPED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Folders whose code must run with an extra alone; "" is the installation without extras.
FOLDERS = {
    "": ("sp_plugin",),
    "lightly": ("adapters/sp_lightly", "adapters/sp_lightning", "configs/lightly"),
    "bench": ("benchmarks/sp_bench",),
    "mmselfsup": ("adapters/sp_mmselfsup",),
    "transformers": ("adapters/sp_transformers",),
    "solo": ("adapters/sp_solo", "adapters/hydra_plugins"),
}
OWN = TYPED | {"sp_bench"}
# Found with the module that needs it; sp_plugin says so where it is not there.
OPTIONAL = {"": {"torchvision"}, "bench": {"transformers"}}


def declared(extra: str) -> set[str]:
    """Distributions that an extra declares, with those of the core and of the extras in it."""
    names = set()
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"].get(extra, [])]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            names.update(*map(declared, requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return names


def imported_modules(path: Path) -> Iterator[str]:
    """Top-level modules that a file imports, except the standard library's and its neighbours."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and not (path.parent / f"{top}.py").exists():
                yield top


@functools.cache
def distributions() -> dict[str, set[str]]:
    """Names of the distributions that install each top-level module."""
    found = importlib.metadata.packages_distributions()
    return {module: set(map(canonicalize_name, names)) for module, names in found.items()}


def installed_with(extra: str) -> set[str]:
    """Names of all distributions that an environment with this extra alone contains."""
    found: set[str] = set()
    waiting = [(name, "") for name in declared(extra)]
    seen = set(waiting)
    while waiting:
        name, its_extra = waiting.pop()
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        for requirement in map(Requirement, requirements):
            marker = requirement.marker
            if marker is None or marker.evaluate({"extra": its_extra}):
                for one in ["", *requirement.extras]:
                    step = (canonicalize_name(requirement.name), one)
                    if step not in seen:
                        seen.add(step)
                        waiting.append(step)
    return found


def visible_modules(extra: str) -> set[str]:
    """Top-level modules that an environment with this extra alone contains."""
    names = installed_with(extra)
    return {module for module, owners in distributions().items() if owners & names}
