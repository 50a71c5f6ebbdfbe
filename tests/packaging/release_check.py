"""Builds wheel and sdist, and runs README's lines where one extra alone is installed.

``make release-check`` runs all of it; ``python tests/packaging/release_check.py mmselfsup`` one
extra; ``--dist FOLDER`` keeps the files that passed. Needs the package index that pip is
configured for, and 10 GB in the temporary folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Packages of the wheel whose types users can rely on.
TYPED = {
    "sp_plugin",
    "sp_lightning",
    "sp_lightly",
    "sp_solo",
    "sp_mmselfsup",
    "sp_transformers",
}
# An extra: what its environment runs in an empty folder; "core" is the installation without any.
SCRIPTS = {
    "core": r"""
python $SOURCE/tests/docs/code_blocks.py README.md SPSession
names_extra() {
    test "$("$@" 2>&1 | tail -n 1 | grep -o 'pip install.*')" = "pip install \"$extra\""
}
extra='sp-plugin[bench]' names_extra sp-bench
extra='sp-plugin[mmselfsup]' names_extra python -m sp_mmselfsup
extra='sp-plugin[lightly]' names_extra python -c 'import sp_lightly'
extra='sp-plugin[transformers]' names_extra python -c 'import sp_transformers'
extra='sp-plugin[solo]' names_extra python -c 'import sp_solo'
""",
    "lightly": r"""
python $SOURCE/tests/docs/code_blocks.py README.md "from sp_lightning import SPCallback"
python $SOURCE/tests/docs/small_data.py FOLDER
for name in simclr mae; do
    python $SOURCE/configs/lightly/$name.py --data FOLDER --sp 0.5 \
        --side 64 --batch-size 8 --epochs 1 --workers 0
done
""",
    "bench": r"""
python $SOURCE/tests/docs/small_data.py FOLDER
sp-bench --help > help.txt
sp-bench show --data FOLDER --out pairs.png
sp-bench compare --method simclr --data FOLDER --batch-size 8 --epochs 1 --seeds 0 --out runs/first
sp-bench report runs/first --out runs/report
sp-bench suite quick epochs=1 method=simclr seed=0 out=runs/quick
""",
    "mmselfsup": r"""
python $SOURCE/tests/docs/small_data.py data/imagenet/train
mkdir data/imagenet/meta
(cd data/imagenet/train && ls */*.png | sed 's/$/ 0/') > data/imagenet/meta/train.txt
for framework in mmselfsup mmpretrain; do
    tools=$(python -c "import $framework; print($framework.__path__[0] + '/.mim/tools')")
    python $tools/train.py $(python -m sp_mmselfsup $framework/byol) \
        --work-dir work_dirs/$framework --cfg-options train_cfg.max_epochs=1 \
        train_dataloader.batch_size=4 train_dataloader.num_workers=0 \
        train_dataloader.persistent_workers=False \
        model.algorithm.backbone.depth=18 model.algorithm.neck.in_channels=512
done
""",
    "transformers": r"""
python $SOURCE/tests/docs/code_blocks.py README.md "from sp_transformers import SPTrainer"
""",
    "solo": r"""
python -c 'import sp_solo; print(*sorted(sp_solo.configs().glob("*/*.yaml")), sep="\n")'
""",
}


def run(command: list[str], folder: Path, **variables: str) -> None:
    """Run a command that must succeed, without this process's settings of Python."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    ran = subprocess.run(
        command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if ran.returncode:
        sys.exit(f"{ran.stdout[-2000:]}\n{ran.stderr[-6000:]}")


def make_environment(folder: Path, *requirements: str) -> Path:
    venv.create(folder, with_pip=True)
    run([str(folder / "bin/pip"), "install", "--quiet", *requirements], folder)
    return folder / "bin"


def build(folder: Path) -> tuple[Path, Path]:
    """Wheel, and the sdist unpacked; both must hold what a user needs of the sources."""
    tools = make_environment(folder / "build", "build", "twine")
    run([str(tools / "python"), "-m", "build", "--outdir", str(folder / "dist"), str(ROOT)], folder)
    (wheel,), (sdist,) = folder.glob("dist/*.whl"), folder.glob("dist/*.tar.gz")
    run([str(tools / "twine"), "check", "--strict", str(wheel), str(sdist)], folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (source,) = (folder / "sdist").iterdir()
    for name in ("examples", "docs", "configs", "tests", "README.md", "CHANGELOG.md"):
        assert (source / name).exists(), f"sdist: lacks {name}"
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in TYPED:
        assert f"{package}/py.typed" in names, f"wheel: lacks {package}/py.typed"
    assert (
        "](docs/"
        not in zipfile.ZipFile(wheel)
        .read(next(name for name in names if name.endswith("METADATA")))
        .decode()
    ), "README: a relative link breaks on a package index"
    shutil.rmtree(folder / "build")
    return wheel, source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", choices=[*SCRIPTS, []], default=list(SCRIPTS))
    parser.add_argument("--dist", type=Path, help="folder for the wheel and the sdist that passed")
    options = parser.parse_args()
    chosen = options.extras
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, source = build(folder)
        for extra in chosen:
            suffix = "" if extra == "core" else f"[{extra}]"
            tools = make_environment(folder / extra, f"sp-plugin{suffix} @ {wheel.as_uri()}")
            empty = folder / f"{extra}-work"
            empty.mkdir()
            path = os.pathsep.join([str(tools), os.environ["PATH"]])
            run(["bash", "-euxc", SCRIPTS[extra]], empty, PATH=path, SOURCE=str(source))
            shutil.rmtree(folder / extra)
            print(f"sp-plugin{suffix}: works alone", flush=True)
        if options.dist is not None:
            shutil.copytree(folder / "dist", options.dist)


if __name__ == "__main__":
    main()
