"""The documentation builds as a site without a warning, and needs no other server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from code_blocks import ROOT

import sp_plugin

pytest.importorskip("sphinx", reason="needs Sphinx (pip install sp-plugin[docs])")

LOADED = re.compile(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(?:https?:)?//')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder)], capture_output=True, text=True, check=False
    )
    assert not built.returncode, built.stderr[-3000:]
    return folder


def test_every_public_name_has_an_entry(site: Path):
    text = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    names = set(sp_plugin.__all__) - {"TARGET_ENCODINGS"}  # a table of `TargetEncoding`
    assert {name for name in names if not re.search(rf'id="sp_plugin\.{name}"', text)} == set()


def test_every_page_is_in_the_navigation(site: Path):
    start = (site / "index.html").read_text()
    pages = {path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")} - {
        "index.html"
    }
    assert {page for page in pages if f'href="{page}"' not in start} == set()


def test_pages_load_nothing_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert [page.name for page in pages if LOADED.search(page.read_text())] == []
