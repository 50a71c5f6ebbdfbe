"""Runs the tests of each framework in an environment of its own, and writes one table.

``python tests/frameworks/matrix.py --out runs/framework-matrix.md [NAME ...]``. An environment is
made once, in ``.venvs/NAME``; delete the folder to make it anew.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from framework_table import COLUMNS, HEADS, MATRIX

ROOT = Path(__file__).parents[2]
TEST_TOOLS = ("hypothesis>=6.100", "packaging>=23", "pytest>=8", "pytest-timeout>=2.3")


@dataclass(frozen=True)
class Framework:
    """A framework that is tested in an environment of its own.

    Attributes:
        name: of its environment.
        requirements: what pip installs there, next to this project and the tools of the tests.
        tests: files or folders of tests.
    """

    name: str
    requirements: tuple[str, ...]
    tests: tuple[str, ...]


FRAMEWORKS = (
    Framework(
        "stable-pretraining",
        ("stable-pretraining>=0.1.8", "timm>=1.0.15"),
        ("tests/frameworks/test_stable_pretraining.py",),
    ),
    Framework("torchgeo", ("torchgeo>=0.8.1",), ("tests/frameworks/test_torchgeo.py",)),
    Framework(
        "lightly-train",
        ("lightly-train>=0.18", "albumentations>=2", "timm>=1.0.15"),
        ("tests/frameworks/test_lightly_train.py",),
    ),
    Framework(
        "onedl-mmpretrain",
        ("onedl-mmpretrain>=1.3.6", "onedl-mmengine>=0.10.8", "mmcv-lite==2.0.1", "setuptools<81"),
        ("tests/frameworks/test_onedl_mmpretrain.py",),
    ),
    Framework(
        "transformers",
        ("transformers>=5", "accelerate>=1.1", "torchvision>=0.20"),
        ("tests/adapters/sp_transformers",),
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="all by default")
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venvs")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "framework-matrix.md")
    options = parser.parse_args()
    known = [framework.name for framework in FRAMEWORKS]
    if unknown := set(options.names) - set(known):
        parser.error(f"names: got {', '.join(sorted(unknown))}, takes {', '.join(known)}")
    rows: list[str] = []
    failed = []
    for framework in FRAMEWORKS:
        if options.names and framework.name not in options.names:
            continue
        output, is_passed = run_tests(framework, options.venvs / framework.name)
        found = table_rows(output)
        rows += found or [table_row(framework.name, "?", "not run")]
        if not (is_passed and found):
            failed.append(framework.name)
            print(output)
    heads = [*HEADS, *COLUMNS]
    lines = [f"# {MATRIX}", "", table_row(*heads), table_row(*("---" for _ in heads)), *rows]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return int(bool(failed))


def run_tests(framework: Framework, folder: Path) -> tuple[str, bool]:
    """What pytest printed, and whether all tests passed."""
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    installed = folder / "installed"
    if not installed.exists():
        venv.create(folder, with_pip=True)
        packages = ["--editable", str(ROOT), *TEST_TOOLS, *framework.requirements]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        installed.touch()
    arguments = ["-q", "-p", "no:cacheprovider", "-o", "timeout=3000", *framework.tests]
    done = subprocess.run(
        [python, "-m", "pytest", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr, done.returncode == 0


def table_rows(output: str) -> list[str]:
    """Rows of the table of frameworks in what pytest printed."""
    lines = output.splitlines()
    head = table_row(*HEADS, *COLUMNS)
    if head not in lines:
        return []
    start = lines.index(head) + 2
    end = next((n for n in range(start, len(lines)) if not lines[n].startswith("|")), len(lines))
    return lines[start:end]


def table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
