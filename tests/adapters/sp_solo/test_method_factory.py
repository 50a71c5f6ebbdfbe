"""Without solo-learn: the factory, the settings, and the cost for other hydra apps."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
import textwrap
import types
from typing import Any

import lightning.pytorch as pl
import pytest
import sp_solo
import torch
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.plugins import Plugins
from hydra_plugins.sp_solo_plugin import SPSearchPath
from omegaconf import DictConfig, OmegaConf
from sp_lightning import SpatialProbeCallback, SPCallback
from sp_solo import MethodFactory
from sp_solo import config as sp_config
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sp_plugin import ConfigError, SPConfig


class Method(pl.LightningModule):
    """Made as solo-learn makes its methods: from the config alone."""

    marker = "of the class"

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.backbone(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Linear(Method):
    pass


def config(**sp: Any) -> DictConfig:
    made = OmegaConf.create({"augmentations": [{"crop_size": 32}], "data": {"format": "h5"}})
    OmegaConf.set_struct(made, True)  # hydra's; solo-learn lifts it, another script may not
    if sp:
        made = OmegaConf.merge({"sp": sp}, made)
    return made


@pytest.fixture
def solo_methods(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that looks as ``solo.methods`` does once a script has imported it."""
    module = types.ModuleType("solo.methods")
    module.BaseMethod = Method
    module.METHODS = {"base": Method, "linear": Linear}
    resumer = types.ModuleType("solo.utils.auto_resumer")
    resumer.AutoResumer = type("AutoResumer", (), {"SHOULD_MATCH": ["name"]})
    monkeypatch.setitem(sys.modules, "solo.methods", module)
    monkeypatch.setitem(sys.modules, "solo.utils.auto_resumer", resumer)
    return module


def fit_model(model: Any) -> dict[str, Tensor]:
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    trainer.fit(model, DataLoader(TensorDataset(images), 4))
    return model.state_dict()


def test_register_wraps_all_but_linear(solo_methods: Any) -> None:
    sp_solo.register()
    first = dict(solo_methods.METHODS)
    assert isinstance(first["base"], MethodFactory) and first["linear"] is Linear
    sp_solo.register()
    assert first == solo_methods.METHODS
    assert sys.modules["solo.utils.auto_resumer"].AutoResumer.SHOULD_MATCH == ["name", "sp"]


def test_register_refuses_old_solo_learn(solo_methods: Any) -> None:
    solo_methods.BaseMethod = type("BaseMethod", (), {"__init__": lambda self, encoder: None})
    with pytest.raises(ConfigError, match=r"holds 1\.0\.2 of 2021.*from https://github") as error:
        sp_solo.register()
    assert "\n" not in str(error.value)
    assert solo_methods.METHODS["base"] is Method


@pytest.mark.parametrize("cfg", (config(), config(enabled=False, weight=0.5)))
def test_method_is_plain_without_sp(cfg: DictConfig) -> None:
    model = MethodFactory(Method)(cfg)
    assert type(model) is Method and model.configure_callbacks() == []
    assert "sp" not in cfg


def test_factory_forwards_and_can_be_copied() -> None:
    factory = MethodFactory(Method)
    assert factory.marker == "of the class"
    assert factory.load_from_checkpoint.__func__ is Method.load_from_checkpoint.__func__
    for other in (copy.deepcopy(factory), pickle.loads(pickle.dumps(factory))):
        assert other.method is Method


def test_sp_adds_a_callback_to_the_model() -> None:
    cfg = config(enabled=True)
    model = MethodFactory(Method)(cfg)
    assert type(model) is Method
    (callback,) = model.configure_callbacks()
    assert isinstance(callback, SPCallback) and callback.config.crop_size == 16
    assert cfg.sp.enabled is True and cfg.sp.crop_size == 16
    assert json.loads(json.dumps(OmegaConf.to_container(cfg.sp)))["crop_scale"] == [0.15, 0.32]


def test_sp_trains_and_weight_0_is_baseline() -> None:
    def run(**sp: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return fit_model(MethodFactory(Method)(config(**sp)))

    plain, on, zero = run(), run(weight=1, warmup_fraction=0), run(weight=0)
    assert plain.keys() == on.keys() == zero.keys()
    assert all(torch.equal(plain[key], zero[key]) for key in plain)
    assert not torch.equal(plain["backbone.0.weight"], on["backbone.0.weight"])


@pytest.mark.parametrize("enabled", (True, False))
def test_probe_adds_a_callback_of_its_own(enabled: bool) -> None:
    cfg = config(enabled=enabled, probe=True, pool="cls")
    callbacks = MethodFactory(Method)(cfg).configure_callbacks()
    kinds = [SPCallback, SpatialProbeCallback] if enabled else [SpatialProbeCallback]
    assert [isinstance(*pair) for pair in zip(callbacks, kinds, strict=True)] == [True] * len(kinds)
    assert callbacks[-1].config.pool == "cls"
    # Auto-resume compares it: the training is that without a probe.
    assert "sp" in cfg if enabled else "sp" not in cfg
    assert "probe" not in cfg.get("sp", {})


def test_probe_of_a_baseline_changes_nothing() -> None:
    def run(**sp: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return fit_model(MethodFactory(Method)(config(**sp)))

    plain, probed = run(), run(enabled=False, probe=True)
    assert plain.keys() == probed.keys()
    assert all(torch.equal(plain[key], probed[key]) for key in plain)


def test_sp_names_survive_main_linear() -> None:
    """It keeps what holds "backbone" and renames what holds "encoder" (main_linear.py)."""
    model = MethodFactory(Method)(config(enabled=True))
    names: list[str] = []
    model.on_train_start = lambda: names.extend(name for name, _ in model.named_parameters())
    state = fit_model(model)
    assert [name for name in names if name.startswith("sp.head.")]
    assert not [n for n in names if n.startswith("sp.") and ("backbone" in n or "encoder" in n)]
    assert set(state) == set(Method(config()).state_dict())


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"wieght": 1}, "sp.wieght: no such setting of SP; did you mean 'weight'?"),
        ({"enable": True}, "sp.enable: no such setting of SP; did you mean 'enabled'?"),
        ({"enabled": "yes"}, "sp.enabled: got 'yes', takes true or false"),
        ({"probe": 1}, "sp.probe: got 1, takes true or false"),
        ({"enabled": False, "loss": "huber"},
         "sp.loss: got 'huber', takes one of smooth_l1, l1, mse"),
    ],
)  # fmt: skip
def test_bad_setting_error_quotes_its_key(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        MethodFactory(Method)(config(**block))
    assert str(error.value) == says


def test_every_setting_is_accepted() -> None:
    for key, value in SPConfig().asdict().items():
        assert getattr(sp_config.read(config(**{key: value})), key) == value
    moving = sp_config.read(config(crop_scale=[[0.3, 0.6], [0.1, 0.3]], max_iou=[1.0, 0.1]))
    assert moving.crop_scale == ((0.3, 0.6), (0.1, 0.3))


def test_dali_warns_and_uses_view_source() -> None:
    cfg = OmegaConf.merge(config(source="image"), {"data": {"format": "dali"}})
    with pytest.warns(UserWarning, match="source is 'view', DALI gives no images"):
        MethodFactory(Method)(cfg)
    assert cfg.sp.source == "view" and cfg.sp.window == [1.0, 1.0]


def test_configs_are_found_in_any_folder(
    solo_methods: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my café"
    shutil.copytree(sp_solo.configs(), folder)
    monkeypatch.setattr(sp_solo, "configs", lambda: folder)
    Plugins.instance()
    path = ConfigSearchPathImpl()
    SPSearchPath().manipulate_search_path(path)
    assert ConfigRepository(path).config_exists("sp/on")


APP = """
import sys, time
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.plugins import Plugins
import hydra

@hydra.main(version_base="1.2", config_path=None)
def main(cfg):
    taken = []
    for _ in range(5):
        for name in [name for name in sys.modules if name.startswith("hydra_plugins.sp_solo")]:
            del sys.modules[name]
        start = time.perf_counter()
        from hydra_plugins.sp_solo_plugin import SPSearchPath
        SPSearchPath().manipulate_search_path(ConfigSearchPathImpl())
        taken.append(time.perf_counter() - start)
    print("found" if "hydra_plugins.sp_solo_plugin" in sys.modules else "not found")
    print(sorted({"torch", "sp_plugin", "sp_solo", "lightning"} & set(sys.modules)))
    print(min(taken) * 1000)

main()
"""


def test_plugin_adds_little_to_other_apps(tmp_path: Any) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    ran = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    found, loaded, milliseconds = ran.stdout.split("\n")[:3]
    assert (found, loaded) == ("found", "[]")
    assert float(milliseconds) < 5
