"""What a user writes: three lines over a baseline, in both forms, and the command line's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import mm_hosts
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from sp_mmselfsup import SPAlgorithm, baseline, recipe
from sp_mmselfsup.algorithm import attach

from sp_plugin import ConfigError, SPConfig, bundled_configs

BYOL = "byol/byol_resnet50_8xb32-accum16-coslr-200e_in1k.py"
FORMS = {
    "scope": f"'mmselfsup::selfsup/{BYOL}'",
    "helper": f"__import__('sp_mmselfsup').baseline('mmselfsup', '{BYOL}')",
}


def written(folder: Path, base: str) -> Config:
    """The three lines, read as tools/train.py reads them."""
    path = folder / "mine.py"
    path.write_text(
        f"_base_ = {base}\n"
        "custom_imports = dict(imports=['sp_mmselfsup'])\n"
        "model = dict(_delete_=True, type='SPAlgorithm', algorithm={{_base_.model}},\n"
        "             sp=dict(weight=1.0, relative=False, warmup=0.0))\n"
    )
    return Config.fromfile(path)


@pytest.mark.parametrize("form", FORMS)
def test_three_lines_train(form: str, data: Path, tmp_path: Path) -> None:
    config = written(tmp_path, FORMS[form])
    runner = mm_hosts.trained(mm_hosts.shrink(config, data, tmp_path / form))
    assert runner.iter == mm_hosts.STEPS
    assert float(runner.message_hub.get_scalar("train/sp_weight").current()) == 1.0


def test_both_forms_are_the_same_run(data: Path, tmp_path: Path) -> None:
    def ended(form: str) -> dict[str, torch.Tensor]:
        config = written(tmp_path, FORMS[form])
        runner = mm_hosts.trained(mm_hosts.shrink(config, data, tmp_path / form))
        return dict(runner.model.state_dict())

    assert mm_hosts.same(ended("scope"), ended("helper"))


@pytest.mark.parametrize("host", ("mmselfsup", "mmpretrain"))
def test_recipes_are_there_and_name_configs_of_the_host(host: str) -> None:
    names = {path.stem for path in bundled_configs.folder(host).glob("*.py")}
    assert names >= {
        *("simclr", "byol", "mocov2", "mocov3_resnet50", "mocov3_vit-small", "simsiam", "swav"),
        *("barlowtwins", "densecl", "mae", "simmim", "beit", "maskfeat"),
    }
    for name in names:
        config = Config.fromfile(recipe(f"{host}/{name}"))
        assert config.model.type == "SPAlgorithm" and config.default_scope == host
        assert MODELS.get(f"{host}.{config.model.algorithm.type}") is not None
        assert SPConfig.from_dict(config.model.sp) == SPConfig(
            source=config.model.sp.get("source", "view")
        )


def test_command_line_sets_what_the_three_lines_left(tmp_path: Path) -> None:
    config = written(tmp_path, FORMS["scope"])
    config.merge_from_dict({"model.sp.weight": 0.7, "model.sp.max_iou": [1.0, 0.1]})
    assert SPConfig.from_dict(config.model.sp).max_iou == (1.0, 0.1)


def test_recipes_are_told_on_the_command_line() -> None:
    def told(*names: str) -> Any:
        command = [sys.executable, "-m", "sp_mmselfsup", *names]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert Path(told("mmselfsup/byol").stdout.strip()).is_file()
    assert "mmpretrain/mae" in told().stdout.split()
    wrong = told("mmselfsup/boyl")
    assert wrong.returncode == 1 and "did you mean 'byol.py'" in wrong.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sp": {"wieght": 1}}, "wieght: no such setting of SP; did you mean 'weight'?"),
        ({"sp": {"weight": "much"}}, "weight: got 'much', takes a number in [0, 1000]"),
        ({"spp": {}}, "spp: SPAlgorithm has no such setting; did you mean 'sp'?"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        SPAlgorithm(algorithm={"type": "NoSuchAlgorithm"}, **settings)
    assert str(error.value) == says


def test_an_algorithm_without_a_backbone_or_with_sp_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear has no 'backbone', which is what SP trains"):
        attach(torch.nn.Linear(2, 2), SPConfig())
    host = torch.nn.Module()
    host.backbone = torch.nn.Conv2d(3, 8, 3)
    assert attach(host, SPConfig()) is host
    with pytest.raises(ConfigError, match="has a part 'sp' already"):
        attach(host, SPConfig())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: baseline("mmselfsub", BYOL), "host: got 'mmselfsub', takes one of mmselfsup, "),
        (lambda: baseline("mmselfsup", "byol/byol.py"), f"no 'byol/byol.py'; known are {BYOL[:9]}"),
        (lambda: baseline("mmselfsup", "boyl/byol.py"), "known are _base_, barlowtwins, beit"),
        (lambda: recipe("mmselfsup/boyl"), "did you mean 'byol.py'?"),
        (lambda: recipe("mmselfsub/byol"), "did you mean 'mmselfsup'?"),
    ],
)
def test_unknown_paths_are_refused_with_the_nearest(call: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        call()
    assert says in str(error.value) and "\n" not in str(error.value)


def test_both_hosts_registries_find_it_and_neither_is_imported() -> None:
    code = (
        "import sys, sp_mmselfsup\n"
        "hosts = {'mmselfsup', 'mmpretrain', 'mmcls', 'mmcv'}\n"
        "assert not hosts & set(sys.modules), hosts & set(sys.modules)\n"
        "from mmengine.registry import MODELS, TRANSFORMS\n"
        "for scope in ('mmselfsup', 'mmpretrain'):\n"
        "    with MODELS.switch_scope_and_registry(scope) as registry:\n"
        "        assert registry.scope == scope\n"
        "        assert registry.get('SPAlgorithm') is sp_mmselfsup.SPAlgorithm\n"
        "    with TRANSFORMS.switch_scope_and_registry(scope) as registry:\n"
        "        assert registry.get('SPCrops') is sp_mmselfsup.SPCrops\n"
        "        assert registry.get('SPViews') is sp_mmselfsup.SPViews\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_core_imports_nothing_of_openmmlab() -> None:
    code = (
        "import sys, sp_plugin\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'mmengine', 'mmcv', 'mmcls', 'mmselfsup', 'mmpretrain'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
