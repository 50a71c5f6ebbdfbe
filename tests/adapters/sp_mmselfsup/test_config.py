"""A user's config: three lines over a baseline, in both forms, and the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import mm_configs
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


def write_config(folder: Path, base: str) -> Config:
    """A config with the three lines, loaded as tools/train.py does."""
    path = folder / "mine.py"
    path.write_text(
        f"_base_ = {base}\n"
        "custom_imports = dict(imports=['sp_mmselfsup'])\n"
        "model = dict(_delete_=True, type='SPAlgorithm', algorithm={{_base_.model}},\n"
        "             sp=dict(weight=1.0, relative_weight=False, warmup_fraction=0.0))\n"
    )
    return Config.fromfile(path)


@pytest.mark.parametrize("form", FORMS)
def test_three_line_config_trains(form: str, data: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, FORMS[form])
    runner = mm_configs.trained(mm_configs.shrink(config, data, tmp_path / form))
    assert runner.iter == mm_configs.STEPS
    assert float(runner.message_hub.get_scalar("train/sp_weight").current()) == 1.0


@pytest.mark.slow
def test_both_base_forms_train_alike(data: Path, tmp_path: Path) -> None:
    def final_state(form: str) -> dict[str, torch.Tensor]:
        config = write_config(tmp_path, FORMS[form])
        runner = mm_configs.trained(mm_configs.shrink(config, data, tmp_path / form))
        return dict(runner.model.state_dict())

    assert mm_configs.same(final_state("scope"), final_state("helper"))


@pytest.mark.parametrize("framework", ("mmselfsup", "mmpretrain"))
def test_recipes_use_shipped_configs(framework: str) -> None:
    names = {path.stem for path in bundled_configs.folder(framework).glob("*.py")}
    assert names >= {
        *("simclr", "byol", "mocov2", "mocov3_resnet50", "mocov3_vit-small", "simsiam", "swav"),
        *("barlowtwins", "densecl", "mae", "simmim", "beit", "maskfeat"),
    }
    for name in names:
        config = Config.fromfile(recipe(f"{framework}/{name}"))
        assert config.model.type == "SPAlgorithm" and config.default_scope == framework
        assert MODELS.get(f"{framework}.{config.model.algorithm.type}") is not None
        assert SPConfig.from_dict(config.model.sp) == SPConfig(
            source=config.model.sp.get("source", "view")
        )


def test_command_line_overrides_config(tmp_path: Path) -> None:
    config = write_config(tmp_path, FORMS["scope"])
    config.merge_from_dict({"model.sp.weight": 0.7, "model.sp.max_iou": [1.0, 0.1]})
    assert SPConfig.from_dict(config.model.sp).max_iou == (1.0, 0.1)


def test_command_line_prints_recipe_paths() -> None:
    def run(*names: str) -> Any:
        command = [sys.executable, "-m", "sp_mmselfsup", *names]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert Path(run("mmselfsup/byol").stdout.strip()).is_file()
    assert "mmpretrain/mae" in run().stdout.split()
    failed = run("mmselfsup/boyl")
    assert failed.returncode == 1 and "did you mean 'byol.py'" in failed.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sp": {"wieght": 1}}, "wieght: no such setting of SP; did you mean 'weight'?"),
        ({"sp": {"weight": "much"}}, "weight: got 'much', takes a number in [0, 1000]"),
        ({"spp": {}}, "spp: SPAlgorithm has no such setting; did you mean 'sp'?"),
    ],
)
def test_bad_settings_give_one_line_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        SPAlgorithm(algorithm={"type": "NoSuchAlgorithm"}, **settings)
    assert str(error.value) == message


def test_missing_delete_key_is_named() -> None:
    model = {"base_momentum": 0.01, "backbone": {}}
    with pytest.raises(ConfigError) as error:
        SPAlgorithm(algorithm={"type": "BYOL", **model}, **model)
    assert str(error.value) == (
        "model: SPAlgorithm got backbone, base_momentum of the inherited model; "
        "write model = dict(_delete_=True, type='SPAlgorithm', ...)"
    )


def test_no_backbone_or_second_sp_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear has no 'backbone', which SP trains"):
        attach(torch.nn.Linear(2, 2), SPConfig())
    algorithm = torch.nn.Module()
    algorithm.backbone = torch.nn.Conv2d(3, 8, 3)
    assert attach(algorithm, SPConfig()) is algorithm
    with pytest.raises(ConfigError, match="has a submodule 'sp' already"):
        attach(algorithm, SPConfig())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: baseline("mmselfsub", BYOL),
            "framework: got 'mmselfsub', takes one of mmselfsup, ",
        ),
        (lambda: baseline("mmselfsup", "byol/byol.py"), f"no 'byol/byol.py'; known are {BYOL[:9]}"),
        (lambda: baseline("mmselfsup", "boyl/byol.py"), "known are _base_, barlowtwins, beit"),
        (lambda: recipe("mmselfsup/boyl"), "did you mean 'byol.py'?"),
        (lambda: recipe("mmselfsub/byol"), "did you mean 'mmselfsup'?"),
    ],
)
def test_unknown_paths_suggest_nearest(call: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_registered_without_framework_import() -> None:
    code = (
        "import sys, sp_mmselfsup\n"
        "frameworks = {'mmselfsup', 'mmpretrain', 'mmcls', 'mmcv'}\n"
        "assert not frameworks & set(sys.modules), frameworks & set(sys.modules)\n"
        "from mmengine.registry import MODELS, TRANSFORMS\n"
        "for scope in ('mmselfsup', 'mmpretrain'):\n"
        "    with MODELS.switch_scope_and_registry(scope) as registry:\n"
        "        assert registry.scope == scope\n"
        "        assert registry.get('SPAlgorithm') is sp_mmselfsup.SPAlgorithm\n"
        "    with TRANSFORMS.switch_scope_and_registry(scope) as registry:\n"
        "        assert registry.get('SPCrops') is sp_mmselfsup.SPCrops\n"
        "        assert registry.get('SPViewBoxes') is sp_mmselfsup.SPViewBoxes\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_core_does_not_import_openmmlab() -> None:
    code = (
        "import sys, sp_plugin\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'mmengine', 'mmcv', 'mmcls', 'mmselfsup', 'mmpretrain'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
