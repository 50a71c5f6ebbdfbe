"""The command line: an error of the user is one line and exit code 2, without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.utils.cpp_extension  # noqa: F401  # logs a line where CUDA is without a GPU
from PIL import Image
from sp_bench.cli import main
from sp_bench.cli_options import expand_list_options, sp_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for i in range(12):
            Image.new("RGB", (40, 40), (i * 20, 90, 30)).save(root / name / f"{i}.png")
    return root


def refusal_line(capsys: Any, *arguments: str) -> str:
    """The error line of a command."""
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == "" and said.err.count("\n") == 1 and "Traceback" not in said.err
    assert said.err.startswith("sp-bench: ")
    return said.err.removeprefix("sp-bench: ").strip()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "simcrl"], "method: no 'simcrl'; did you mean 'simclr'?"),
        (["--backbone", "tiny_resnt"], "backbone: no 'tiny_resnt'; did you mean 'tiny_resnet'?"),
        (["--data", "cifr10"], "did you mean 'cifar10'?"),
        (["--data", "no/such/folder"], "the folder does not exist"),
        (["--sp", "wieght=1"], "wieght: no such setting of SP; did you mean 'weight'?"),
        (["--sp", "weight"], "--sp: got 'weight', takes KEY=VALUE, such as weight=0.5"),
        (["--sp", "max_iou=2"], "max_iou: got 2, takes a number in [0, 1], or two"),
        (["--tasks", "lineer"], "tasks: there is no 'lineer'; did you mean 'linear'?"),
        (["--epochs", "0"], "epochs: got 0, takes a whole number from 1 up"),
        (["--batch-size", "4000"], "batch_size: got 4000, takes at most the 40 images"),
        (["--method", "mae", "--backbone", "tiny_resnet"], "backbone: mae takes a ViT"),
        (["--seeds", "-1"], "seeds: got -1, takes whole numbers from 0"),
        (["--precision", "bf17-mixed"], "precision: no 'bf17-mixed'; did you mean 'bf16-mixed'?"),
        (["--weight-decay", "-1"], "weight_decay: got -1.0, takes a number from 0 up"),
        (["--weight-decay", "nan"], "weight_decay: got nan, takes a number from 0 up"),
        (["--learning-rate", "inf"], "learning_rate: got inf, takes a number above 0"),
        (["--backbone", "xqzw"], "takes tiny_resnet, tiny_vit, resnet18, "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_compare_refuses_in_one_line(
    arguments: list[str], says: str, capsys: Any, tmp_path: Path
) -> None:
    given = ["compare", "--limit", "40", "--side", "32", "--epochs", "1", "--seeds", "0"]
    assert says in refusal_line(capsys, *given, "--out", str(tmp_path / "out"), *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "steps,crop"], "only: no 'crop'; did you mean 'crops'?"),
        (["--repeats", "0"], "repeats: got 0, takes a whole number from 1 up"),
        (["--device", "tpu"], "device: got 'tpu', takes one of auto, cpu, cuda"),
        (["--docs", "speed.md"], "docs: takes --from SPEED.JSON, and --from takes --docs"),
        (["--from", "no.json", "--docs", "x.md"], "from: no.json is no speed.json"),
        (["--data", "no/such", "--only", "data", "--quick"], "the folder does not exist"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_speed_refuses_in_one_line(
    arguments: list[str], says: str, capsys: Any, tmp_path: Path
) -> None:
    assert says in refusal_line(capsys, "speed", "--out", str(tmp_path / "out"), *arguments)


def test_speed_takes_a_folder(capsys: Any) -> None:
    assert "out: takes a folder" in refusal_line(capsys, "speed")


def test_unusable_output_is_one_line_error(capsys: Any, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("x")
    show = ["show", "--data", str(folder), "--out"]
    assert "is a folder; takes a PNG file" in refusal_line(capsys, *show, str(tmp_path))
    below = str(file / "b" / "c.png")
    assert "Not a directory" in refusal_line(capsys, *show, below)
    line = refusal_line(capsys, "report", str(tmp_path), "--out", str(file))
    assert line == f"out: {file} is a file; takes a folder for report.html and report.md"


@pytest.mark.parametrize("command", ["", "compare", "eval", "show", "suite", "report", "speed"])
def test_help_imports_no_torch(command: str) -> None:
    program = (
        "import sys; from sp_bench.cli import app\n"
        f"try: app({[*command.split(), '--help']})\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Usage" in done.stdout


def test_refused_command_leaves_no_files(capsys: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refusal_line(capsys, "compare", "--out", str(out), "--data", "no/such/folder")
    assert not out.exists()


def test_unusable_data_error_names_it(capsys: Any, folder: Path, tmp_path: Path) -> None:
    empty, single = tmp_path / "empty", tmp_path / "single"
    empty.mkdir()
    (single / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(single / "cat" / "a.png")
    for data in (empty, single):
        line = refusal_line(capsys, "compare", "--data", str(data), "--out", str(tmp_path / "out"))
        assert str(data) in line
    assert str(empty) in refusal_line(capsys, "show", "--data", str(empty))


def test_unknown_option_gets_click_error(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--epoch", "3"])
    assert stop.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def test_list_options_are_expanded() -> None:
    found = expand_list_options(
        ["compare", "--seeds", "0", "1", "2", "--epochs", "3", "--out", "4"]
    )
    assert found == [
        "compare", "--seeds", "0", "--seeds", "1", "--seeds", "2", "--epochs", "3", "--out", "4",
    ]  # fmt: skip


def test_sp_settings_parse_json_or_words() -> None:
    config = sp_settings(["weight=0.5", "max_iou=[1, 0.1]", "sharpness=native", "layer=null"])
    assert (config.weight, config.max_iou, config.sharpness, config.layer) == (
        0.5, (1.0, 0.1), "native", None,
    )  # fmt: skip


def test_show_writes_an_image(capsys: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.png"
    main_exits_with_0(["show", "--data", str(folder), "--out", str(out), "--side", "64"])
    assert str(out) in capsys.readouterr().out.replace("\n", "")
    with Image.open(out) as image:
        assert min(image.size) > 300 and len(image.convert("RGB").getcolors(1 << 24) or []) > 20


def test_compare_prints_the_table(capsys: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main_exits_with_0(
        ["compare", "--data", str(folder), "--out", str(out), "--epochs", "1", "--side", "32",
         "--batch-size", "4", "--seeds", "0", "--tasks", "knn"]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "kNN" in said and "baseline" in said and "report.html" in said.replace("\n", "")
    assert (out / "results.json").exists()


def test_unreadable_images_are_left_out(capsys: Any, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(60):
            Image.new("RGB", (40, 40), (i * 4, 90, 30)).save(tmp_path / "data" / name / f"{i}.png")
    (tmp_path / "data" / "dog" / "broken.png").write_bytes(b"not an image")
    main_exits_with_0(
        ["compare", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--epochs",
         "1", "--side", "32", "--batch-size", "32", "--seeds", "0", "--tasks", "knn"]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "left out, unreadable: 1" in said and "broken.png" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_prints_how_to_resume(tmp_path: Path, number: signal.Signals) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    # So many that an epoch takes seconds: the interrupt is to come within one.
    for name in ("cat", "dog"):
        (data / name).mkdir(parents=True)
        for i in range(500):
            Image.new("RGB", (16, 16), (i % 256, 90, 30)).save(data / name / f"{i}.png")
    # A shell that runs this in the background has SIGINT ignored, and children inherit that.
    code = (
        "import signal, sys; from sp_bench.cli import main;"
        "signal.signal(signal.SIGINT, signal.default_int_handler); main(sys.argv[1:])"
    )
    command = [
        sys.executable, "-c", code, "compare", "--data", str(data), "--out", str(out),
        "--epochs", "5000", "--side", "16", "--batch-size", "8", "--seeds", "0", "--tasks", "knn",
    ]  # fmt: skip
    log = tmp_path / "stderr.txt"
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as running:
        try:
            wait_for(lambda: list(out.glob("seed0-baseline/epoch*.ckpt")) or running.poll())
            time.sleep(1)  # into the next epoch: while it clears up, Python drops an interrupt
            running.send_signal(number)
            running.wait(timeout=90)
        finally:
            running.kill()
    said = log.read_text()
    assert running.returncode == 130
    assert said.strip().endswith("sp-bench: stopped; the same command goes on from here")
    assert "Traceback" not in said
    assert not (out / "seed0-baseline" / "final.ckpt").exists()


def wait_for(happened: Callable[[], Any], limit: float = 90) -> None:
    """Poll until a condition is true, at most ``limit`` seconds."""
    end = time.monotonic() + limit
    while not happened() and time.monotonic() < end:
        time.sleep(0.2)


def main_exits_with_0(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
