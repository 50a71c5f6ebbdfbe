"""What SPCallback adds to a module, what it leaves, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sp_lightning import SPCallback
from sp_lightning.param_groups import add_to_param_groups, optimizers_in

from sp_plugin import ConfigError, SpatialPrediction, SPConfig
from sp_plugin.view_search import find_view


def test_fit_restores_module(kit: Any) -> None:
    module = kit.new("two_views")
    before = (set(vars(module)), list(module.state_dict()), list(module._modules))
    kit.fit(module, SPCallback(weight=1))
    after = (set(vars(module)), list(module.state_dict()), list(module._modules))
    assert after == before or after[1:] == before[1:]
    assert "training_step" not in vars(module)


def test_state_dict_lacks_sp_in_training(kit: Any) -> None:
    seen: list[list[str]] = []

    class Look(kit.pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            assert any(name.startswith("sp.") for name, _ in pl_module.named_parameters())
            seen.append(list(pl_module.state_dict()))

    module = kit.new("two_views")
    kit.fit(module, SPCallback(weight=1), Look())
    assert seen and all(keys == list(module.state_dict()) for keys in seen)


def test_metrics_use_module_log(kit: Any) -> None:
    trainer = kit.fit(
        kit.new("two_views"), SPCallback(weight=0.5, relative_weight=False, warmup_fraction=0)
    )
    metrics = trainer.callback_metrics
    assert float(metrics["train_sp_weight"]) == 0.5
    assert 0 < float(metrics["train_sp_loss"]) < 2
    assert {"train_sp_r2_dx", "train_sp_r2_dy", "train_sp_r2_scale"} <= metrics.keys()


def test_weight_warms_up_and_cools_down(kit: Any) -> None:
    seen: list[float] = []

    class Look(kit.pl.Callback):
        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            seen.append(float(trainer.callback_metrics["train_sp_weight"]))

    callback = SPCallback(
        weight=1, relative_weight=False, warmup_fraction=0.5, cooldown_fraction=0.5
    )
    kit.fit(kit.new("two_views"), Look(), callback, max_epochs=4, limit_train_batches=1)
    assert seen == [0.0, 0.5, 1.0, 0.5]


def test_crop_size_follows_view_size(kit: Any) -> None:
    callback = SPCallback(weight=1)
    kit.fit(kit.new("two_views"), callback)
    assert callback.sp.config.crop_size == 16
    assert callback.sp.config.crop_scale == (0.15, 0.32)


def test_second_fit_keeps_module_head(kit: Any) -> None:
    module, callback = kit.new("two_views"), SPCallback(weight=1)
    kit.fit(module, callback)
    head, step = callback.sp, callback.step
    kit.fit(module, callback)
    assert callback.sp is head and callback.step == 2 * step
    kit.fit(kit.new("two_views"), callback)
    assert callback.sp is not head and callback.step == step


def test_failed_fit_restores_module(kit: Any) -> None:
    class Fail(kit.pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise KeyError("in the middle")

    module, callback = kit.new("two_views"), SPCallback(weight=1)
    with pytest.raises(KeyError):
        kit.fit(module, callback, Fail())
    assert "sp" not in module._modules and "training_step" not in vars(module)
    kit.fit(module, callback)


def test_ranks_sample_different_boxes() -> None:
    sp = SpatialPrediction(16, SPConfig(crop_size=8))
    net, images = torch.nn.Conv2d(3, 16, 3), torch.rand(4, 3, 16, 16)
    first, second, again = (sp(net, images, step=0, rank=rank).boxes for rank in (0, 1, 0))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_validate_alone_adds_nothing(kit: Any) -> None:
    module = kit.new("two_views")
    module.validation_step = lambda batch, batch_idx: None
    loader = torch.utils.data.DataLoader([torch.zeros(3, 8, 8)])
    kit.trainer(SPCallback(weight=1)).validate(module, loader, verbose=False)
    assert "sp" not in module._modules and "training_step" not in vars(module)


def test_head_joins_groups_of_its_kind(kit: Any) -> None:
    module = kit.new("teacher")
    configured = module.configure_optimizers()
    head = torch.nn.Linear(2, 2)
    places = add_to_param_groups(module, "student", head, configured)
    biases, matrices = configured["optimizer"].param_groups
    assert places == [(0, 1), (0, 0)] and matrices["weight_decay"] > biases["weight_decay"]
    assert matrices["params"][-1] is head.weight and biases["params"][-1] is head.bias


def test_optimizers_found_in_every_format() -> None:
    a, b = (torch.optim.SGD([torch.zeros(1)]) for _ in range(2))
    forms = [a, [a], (a,), {"optimizer": a}, ([a], [object()]), ({"optimizer": a},)]
    assert all(list(optimizers_in(form)) == [a] for form in forms)
    assert list(optimizers_in(([a, b], []))) == [a, b]
    assert list(optimizers_in(None)) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "backbone",
            "'backbone' is not trained by any optimizer (an EMA teacher of 'student'?); ",
        ),
        ("studnet", "Teacher has no 'studnet'; did you mean 'student'?"),
    ],
)
def test_wrong_student_is_refused_by_name(kit: Any, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match="backbone: ") as error:
        kit.fit(kit.new("teacher"), SPCallback(name))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_trainable_teacher_is_refused(kit: Any) -> None:
    module = kit.new("teacher")
    module.backbone.requires_grad_(True)
    with pytest.raises(ConfigError, match="trained are student, projector"):
        kit.fit(module, SPCallback("backbone"))


def test_missing_manual_backward_is_refused(kit: Any) -> None:
    module = kit.new("manual")
    module.training_step = lambda batch, batch_idx: None
    with pytest.raises(ConfigError, match=r"self\.manual_backward"):
        kit.fit(module, SPCallback())


def test_two_callbacks_are_refused(kit: Any) -> None:
    with pytest.raises((ConfigError, RuntimeError), match="SPCallback"):
        kit.fit(kit.new("two_views"), SPCallback(), SPCallback())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"wieght": 1}, "wieght: no such setting of SP; did you mean 'weight'?"),
        (
            {"source": "image", "max_iou": (1.0, 0.1)},
            "max_iou: got (1.0, 0.1), takes one value where source is 'image'",
        ),
    ],
)
def test_bad_settings_are_refused_at_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        SPCallback(**settings)
    assert str(error.value) == says


def test_keywords_override_config() -> None:
    callback = SPCallback(config=SPConfig(weight=0.7, seed=3), seed=4)
    assert (callback.config.weight, callback.config.seed) == (0.7, 4)
    assert SPCallback(config={"weight": 0.7}).config.weight == 0.7


def test_callback_pickles_and_deepcopies(kit: Any) -> None:
    callback = SPCallback("student", weight=1, warmup_fraction=0)
    kit.fit(kit.new("teacher"), callback)
    for twin in (pickle.loads(pickle.dumps(callback)), copy.deepcopy(callback)):
        assert isinstance(twin, SPCallback) and isinstance(twin, kit.pl.Callback)
        assert (twin.backbone, twin.config, twin.step) == ("student", callback.config, 4)
        for key, value in callback.state_dict()["sp"].items():
            assert torch.equal(twin.state_dict()["sp"][key], value)


def test_first_view_is_found_depth_first() -> None:
    full, local = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 4, 4)
    target = torch.arange(2)
    assert find_view(([full, local], target)).images is full
    assert find_view({"index": target, "views": ([full], local)}).images is full
    assert find_view([target, [[full, local], [local]]]).images is full
    with pytest.raises(ConfigError, match="batch: a list without images"):
        find_view([target, torch.rand(2, 3)])


@pytest.mark.parametrize("package", ("pytorch_lightning", "lightning.pytorch"))
def test_imports_only_lightning_in_use(package: str) -> None:
    other = {"pytorch_lightning", "lightning.pytorch"} - {package}
    code = (
        f"import sys, sp_lightning; assert not {{'torchvision', 'lightly'}} & set(sys.modules);"
        f"assert not [p for p in ('pytorch_lightning', 'lightning') if p in sys.modules];"
        f"import {package} as pl; c = sp_lightning.SPCallback(); assert isinstance(c, pl.Callback);"
        f"assert {other.pop()!r} not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_instance_fits_packages_loaded_later() -> None:
    code = (
        "import pickle, pytorch_lightning\n"
        "from sp_lightning import SPCallback\n"
        "class Mine(SPCallback): pass\n"
        "import lightning.pytorch\n"
        "for cls in (SPCallback, Mine):\n"
        "    callback = cls(weight=1)\n"
        "    assert isinstance(callback, (cls, SPCallback))\n"
        "    for package in (pytorch_lightning, lightning.pytorch):\n"
        "        assert isinstance(callback, package.Callback)\n"
        "callback = SPCallback(weight=1)\n"
        "assert type(pickle.loads(pickle.dumps(callback))) is type(callback)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_steps_not_finite_are_recorded(kit: Any, tmp_path: Path) -> None:
    module = kit.hosts["two_views"]()
    torch.nn.init.constant_(module.backbone[0].bias, float("nan"))
    folder = tmp_path / "bad"
    callback = SPCallback(on_nonfinite="record", record_folder=str(folder), warmup_fraction=0.0)
    kit.fit(module, callback, max_epochs=1, limit_train_batches=2)
    assert sorted(file.name for file in folder.iterdir()) == [
        "step0000000-rank0.pt", "step0000001-rank0.pt"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"^on_nonfinite: got 'keep', takes one of skip, record"):
        SPCallback(on_nonfinite="keep")
