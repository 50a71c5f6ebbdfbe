"""Builds wheel and sdist, and runs README's lines where one extra alone is installed.

``make release-check`` runs all of it; ``python tests/packaging/release_check.py mmselfsup`` one
extra. Needs the package index that pip is configured for, and 10 GB in the temporary folder.
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
IMAGES = """
import random, sys
from pathlib import Path
from PIL import Image

for label in "ab":
    for i in range(20):
        path = Path("FOLDER", label, f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        random.seed(i)
        coarse = Image.frombytes("RGB", (8, 8), random.randbytes(192))
        coarse.resize((72, 64), Image.Resampling.BICUBIC).save(path)
"""
# A loop as README writes it needs a method, a loader and an optimizer.
LOOP = """
import re, sys, torch
from torch import nn

(text,) = [t for t in re.findall("```python\\n(.*?)```", open(sys.argv[1]).read(), re.S) if "SPSession" in t]
backbone, loader, steps = nn.Conv2d(3, 16, 3), [torch.rand(4, 3, 32, 32)] * 4, 4
optimizer, method = torch.optim.SGD(backbone.parameters(), lr=0.1), lambda images: backbone(images).mean()
exec(text)
assert loss.isfinite()
"""
TRAINER = """
import re, sys, torch
from pytorch_lightning import Trainer

(text,) = [t for t in re.findall("```python\\n(.*?)```", open(sys.argv[1]).read(), re.S) if "SPCallback" in t]
exec(text)
"""
# MMSelfSup's page, with its own script and recipe made small.
TRAIN_MM = """
mkdir -p data/imagenet/meta && ln -sfn $PWD/FOLDER data/imagenet/train
(cd FOLDER && ls */*.png | sed 's/$/ 0/') > data/imagenet/meta/train.txt
tools=$(python -c "import $0, pathlib; print(pathlib.Path($0.__file__).parent / '.mim/tools')")
python $tools/train.py $(python -m sp_mmselfsup $0/byol) --work-dir work_dirs/$0 --cfg-options \\
    train_dataloader.batch_size=4 train_dataloader.num_workers=0 train_cfg.max_epochs=1 \\
    train_dataloader.persistent_workers=False model.algorithm.backbone.depth=18 \\
    model.algorithm.neck.in_channels=512
"""
# An extra: what its environment runs in an empty folder. README is the README in the sdist.
COMMANDS: dict[str, list[list[str]]] = {
    "": [["python", "-c", LOOP, "README"], ["sp-bench"], ["python", "-m", "sp_mmselfsup"]],
    "lightly": [
        ["python", "-c", TRAINER, "README"],
        ["python", "-c", IMAGES],
        ["python", "SOURCE/examples/plain_torch.py", "FOLDER"],
        *(
            ["python", f"SOURCE/configs/lightly/{name}.py", *["--data", "FOLDER", "--sp", "0.5"]]
            + ["--side", "64", "--batch-size", "8", "--epochs", "1", "--workers", "0"]
            for name in ("simclr", "mae")
        ),
    ],
    "bench": [
        ["python", "-c", IMAGES],
        ["sp-bench", "--help"],
        ["sp-bench", "show", "--data", "FOLDER", "--out", "pairs.png"],
        [
            "sp-bench",
            "compare",
            "--method",
            "simclr",
            "--data",
            "FOLDER",
            "--epochs",
            "1",
            "--seeds",
            "0",
            "--out",
            "runs/first",
        ],
        ["sp-bench", "suite", "quick", "epochs=1", "out=runs/quick"],
        ["sp-bench", "report", "runs/first", "--out", "runs/report"],
    ],
    "mmselfsup": [
        ["python", "-m", "sp_mmselfsup"],
        ["python", "-c", IMAGES],
        *(["bash", "-euc", TRAIN_MM, framework] for framework in ("mmselfsup", "mmpretrain")),
    ],
    "solo": [["python", "-c", "import sp_solo; print(sp_solo.configs())"]],
}
# Commands that must stop with one line, which names the extra.
REFUSED = {"sp-bench": "sp-plugin[bench]", "sp_mmselfsup": "sp-plugin[mmselfsup]"}


def run(command: list[str], folder: Path, bin_folder: Path | None = None) -> None:
    """Run a command that must succeed, or, without its extra, name the extra in one line."""
    path = os.pathsep.join([*([str(bin_folder)] if bin_folder else []), os.environ["PATH"]])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    ran = subprocess.run(
        command, cwd=folder, env={**environment, "PATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    print(f"$ {' '.join(command)[:100]!r}: {ran.returncode}", flush=True)
    refused = REFUSED.get(command[-1]) if bin_folder and bin_folder.parent.name == "core" else None
    if refused:
        lines = [line for line in ran.stderr.splitlines() if "sp-plugin" in line]
        assert ran.returncode and refused in lines[-1] and "Traceback" not in ran.stderr, ran.stderr
    elif ran.returncode:
        sys.exit(f"{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}")


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
    for package in ("sp_plugin", "sp_lightning", "sp_lightly", "sp_solo", "sp_mmselfsup"):
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
    parser.add_argument("extras", nargs="*", default=list(COMMANDS), help="'core': no extra")
    chosen = parser.parse_args().extras
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, source = build(folder)
        for extra in ("" if one == "core" else one for one in chosen):
            print(f"== sp-plugin[{extra}]" if extra else "== sp-plugin", flush=True)
            environment = folder / (extra or "core")
            suffix = f"[{extra}]" if extra else ""
            bin_folder = make_environment(environment, f"sp-plugin{suffix} @ {wheel.as_uri()}")
            empty = folder / f"{environment.name}-work"
            empty.mkdir()
            for command in COMMANDS[extra]:
                places = [
                    part.replace("SOURCE", str(source)) if part.startswith("SOURCE") else part
                    for part in command
                ]
                readme = [
                    str(source / part) + ".md" if part == "README" else part for part in places
                ]
                run(readme, empty, bin_folder)
            shutil.rmtree(environment)
    print("release-check: all extras work alone")


if __name__ == "__main__":
    main()
