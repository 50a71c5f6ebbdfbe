"""SPCallback by the environment variable SP_PLUGIN, through Lightning's own entry points."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sp_lightning import autoload

from sp_plugin import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: Any) -> None:
    """The package is installed with the entry points of pyproject.toml, wherever this runs from."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    folder = tmp_path / "site" / "sp_plugin-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: sp-plugin\nVersion: 0\n")
    lines = [
        f"[{group}]\n{name} = {target}"
        for group, points in groups.items()
        for name, target in points.items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder.parent)


@pytest.mark.usefixtures("offered")
def test_trainer_gets_the_callback_if_set(kit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    def fitted(value: str) -> Any:
        monkeypatch.setenv("SP_PLUGIN", value)
        module = kit.new("two_views")
        return kit.fit(module, max_epochs=1), kit.state(module)

    settings = tmp_path / "sp.yaml"
    settings.write_text("weight: 0\nbackbone: backbone\n")
    (plain, baseline), (_, off), (_, zero) = fitted(""), fitted("0"), fitted(str(settings))
    (callbacks, on) = (fitted("1")[0].callbacks, fitted("1")[1])
    assert not any(type(one).__name__ == "SPCallback" for one in plain.callbacks)
    assert [type(one).__name__ for one in callbacks].count("SPCallback") == 1
    assert kit.same(baseline, off) and kit.same(baseline, zero) and not kit.same(baseline, on)


def test_unset_variable_imports_nothing() -> None:
    code = (
        "import sys; from sp_lightning.autoload import callbacks; assert callbacks() == []; "
        "assert not {'torch', 'yaml', 'sp_plugin', 'lightning'} & sys.modules.keys()"
    )
    paths = [str(ROOT), str(ROOT / "adapters")]
    environment = {"PYTHONPATH": ":".join(paths)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize(
    ("value", "text", "line"),
    (
        ("yes", None, "SP_PLUGIN: got 'yes', takes 1, 0 or a YAML file of settings"),
        ("sp.yaml", "[1, 2]", "sp.yaml: got list, takes settings such as 'weight: 0.3'"),
        ("sp.yaml", "a: [", "sp.yaml: "),
        ("sp.yaml", "wieght: 1", "did you mean 'weight'"),
    ),
)
def test_bad_values_are_refused(
    value: str, text: str | None, line: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / value).write_text(text)
    monkeypatch.setenv("SP_PLUGIN", value)
    with pytest.raises(ConfigError) as error:
        autoload.callbacks()
    assert line in str(error.value) and "\n" not in str(error.value)
