"""The project's words: no private vocabulary, and no class name twice."""

from __future__ import annotations

import ast
import re
import subprocess
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("sp_plugin", "adapters", "benchmarks", "configs", "examples", "tests")

TEXTS = (".py", ".md", ".yaml", ".jinja", ".toml")

# Words that say something else here than in the field, with the field's word.
RETIRED = {
    "asked": "requested, selected, evaluated",
    "asking": "evaluating, calling",
    "asks": "evaluates, calls",
    "beside": "next to",
    "peek": "fingerprint",
    "picture": "image",
    "pictures": "images",
    "settle": "configure, resolve",
    "settled": "configured, resolved",
    "suit": "configure_for",
    "suited": "configured",
    "surely": "significant",
    "told": "the noun: metrics, message, settings",
}
# This list, and predictions, which stay word for word as they were written before the runs.
ALLOWED = ("tests/test_vocabulary.py", "configs/bench/arm/trial/", "docs/results.md")


def python_files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def words_of(identifier: str) -> set[str]:
    """Words of a snake_case or CamelCase identifier.

    >>> sorted(words_of("isAsked_beside"))
    ['asked', 'beside', 'is']
    """
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)
    return {part.lower() for part in parts}


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string


@pytest.mark.parametrize("folder", FOLDERS)
def test_identifiers_have_no_retired_words(folder: str) -> None:
    uses = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        for line, identifier in identifiers(path):
            for word in words_of(identifier) & RETIRED.keys():
                if not name.startswith(ALLOWED):
                    uses.append(f"{name}:{line}: {identifier}: say {RETIRED[word]}")
    assert not uses, "\n".join(uses)


def test_prose_has_no_retired_words() -> None:
    pattern = re.compile(rf"\b({'|'.join(RETIRED)})\b", re.IGNORECASE)
    files = subprocess.run(
        ["git", "ls-files", *FOLDERS, "docs", "README.md", "pyproject.toml", "Makefile"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    uses = []
    for name in files:
        if name.startswith(ALLOWED) or not name.endswith(
            (".py", ".md", ".yaml", ".jinja", ".toml")
        ):
            continue
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            if found := pattern.search(line):
                uses.append(f"{name}:{number}: {found[0]}: say {RETIRED[found[0].lower()]}")
    assert not uses, "\n".join(uses)


def test_no_class_name_occurs_twice() -> None:
    places = defaultdict(list)
    for path in python_files():
        if path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice


def test_test_names_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if len(node.name) > 40
    ]
    assert not long, "\n".join(long)
