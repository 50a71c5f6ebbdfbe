"""Every ``make TARGET`` that a workflow or a page names is a target of the Makefile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob(".github/**/*.yml"),
    *ROOT.glob(".github/**/*.md"),
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("docs/**/*.rst"),
]
# At the start of a line or of code, as a step of a workflow, or after another command.
NAMED = re.compile(r"(?:^\s*|`|run: |&& )make ([a-z][a-z-]*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    rules = re.findall(r"^([a-z][a-z -]*):(?!=)", makefile, re.MULTILINE)
    targets = {name for rule in rules for name in rule.split()}
    missing = set(NAMED.findall(page.read_text())) - targets
    assert not missing, f"no such target: {', '.join(sorted(missing))}"


def test_workflows_name_targets() -> None:
    named = {name for page in PAGES for name in NAMED.findall(page.read_text())}
    assert {"demo", "docs", "test", "test-oldest", "release-check"} <= named
