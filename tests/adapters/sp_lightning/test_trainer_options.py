"""What a Trainer can do, with SP: each works, or stops with one line that says what to do.

Fills the table of features by Lightning package; ``make lightning-features`` prints it.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from sp_lightning import SPCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sp_plugin import ConfigError

pytestmark = pytest.mark.usefixtures("feature")


def check_contract(
    kit: Any, host: str, sp: dict[str, Any] | None = None, **options: Any
) -> SPCallback:
    """Weight 0 ends as the baseline, weight 1 elsewhere; gives the callback of weight 1."""
    ends = {}
    for weight in (None, 0, 1):
        module = kit.new(host)
        callback = (
            None if weight is None else SPCallback(weight=weight, warmup_fraction=0, **(sp or {}))
        )
        kit.fit(module, *([callback] if callback else []), **options)
        ends[weight] = kit.state(module)
    assert kit.same(ends[None], ends[0])
    assert not kit.same(ends[None], ends[1])
    return callback


def test_fit_twice(kit: Any) -> None:
    module, callback = kit.new("two_views"), SPCallback(weight=1)
    trainer = kit.fit(module, callback, max_epochs=1)
    head = copy.deepcopy(callback.sp.head.state_dict())
    trainer.fit_loop.max_epochs = 2
    loader = DataLoader(_ViewPairs(), batch_size=8)
    trainer.fit(module, loader)
    assert callback.step == 4
    assert not kit.same(head, callback.sp.head.state_dict())


def test_validate_and_test_alone(kit: Any) -> None:
    module = kit.new("two_views")
    module.validation_step = module.test_step = lambda batch, batch_idx: None
    before, callback = kit.state(module), SPCallback(weight=1)
    for name in ("validate", "test"):
        getattr(kit.trainer(callback), name)(module, DataLoader(_ViewPairs(), 8), verbose=False)
    assert kit.same(kit.state(module), before) and callback.sp is None and not hasattr(module, "sp")


def test_fit_with_validation(kit: Any) -> None:
    seen = []
    module = kit.new("two_views")
    module.validation_step = lambda batch, batch_idx: seen.append(batch[0][0].shape)
    callback = SPCallback(weight=1)
    kit.trainer(callback).fit(module, DataLoader(_ViewPairs(), 8), DataLoader(_ViewPairs(), 8))
    assert callback.step == 4 and len(seen) >= 4  # none of SP's steps are validation's


def test_deepcopy_of_module_in_training(kit: Any) -> None:
    """As weight averaging does."""
    copies = []

    class Averaging(kit.pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            pl_module.trainer = None
            copies.append(copy.deepcopy(pl_module))
            pl_module.trainer = trainer

    module = kit.new("two_views")
    kit.fit(module, SPCallback(weight=1), Averaging())
    assert kit.same(copies[-1].state_dict(), kit.state(module))
    assert kit.new("two_views").load_state_dict(copies[-1].state_dict(), strict=True)


def test_stochastic_weight_averaging(kit: Any) -> None:
    averaging = kit.pl.callbacks.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)
    module = kit.new("queue")
    kit.fit(module, SPCallback(weight=1), averaging, max_epochs=3)
    assert all(value.isfinite().all() for value in kit.state(module).values())
    assert not any(key.startswith("sp.") for key in module.state_dict())


def test_fast_dev_run(kit: Any) -> None:
    assert check_contract(kit, "two_views", {"relative_weight": False}, fast_dev_run=True).step == 1


def test_gradient_accumulation(kit: Any) -> None:
    check_contract(kit, "two_views", accumulate_grad_batches=2)


def test_gradient_clipping_by_norm_and_value(kit: Any) -> None:
    check_contract(kit, "two_views", gradient_clip_val=0.01)
    check_contract(kit, "two_views", gradient_clip_val=0.01, gradient_clip_algorithm="value")


def test_bf16_mixed(kit: Any) -> None:
    check_contract(kit, "two_views", precision="bf16-mixed")


def test_manual_optimization_two_optimizers(kit: Any) -> None:
    assert check_contract(kit, "manual").step == 4  # two backward passes a step, SP in one of them


def test_a_compiled_student(kit: Any) -> None:
    def run(*callbacks: Any) -> dict[str, Tensor]:
        module = kit.new("two_views")
        module.backbone = torch.compile(module.backbone, backend="aot_eager")
        kit.fit(module, *callbacks, max_epochs=1)
        return kit.state(module)

    baseline = run()
    assert kit.same(baseline, run(SPCallback(weight=0)))
    assert not kit.same(baseline, run(SPCallback(weight=1, warmup_fraction=0)))


def test_a_student_of_one_device(kit: Any) -> None:
    """Some kernels run on a GPU alone: the student is moved to the device before SP runs it."""

    class OnDevice(nn.Sequential):
        is_moved = False

        def _apply(self, *args: Any, **kwargs: Any) -> Any:
            self.is_moved = True
            return super()._apply(*args, **kwargs)

        def forward(self, images: Tensor) -> Tensor:
            if not self.is_moved:
                raise NotImplementedError("no kernel on this device")
            return super().forward(images)

    class Host(kit.hosts["two_views"]):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = OnDevice(self.backbone)

    kit.hosts["on_device"] = Host
    check_contract(kit, "on_device")


def test_a_batch_that_the_step_empties(kit: Any) -> None:
    class Host(kit.hosts["two_views"]):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return {"views": batch[0], "label": batch[1]}

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step((batch.pop("views"), batch.pop("label")), batch_idx)

    kit.hosts["emptied"] = Host
    check_contract(kit, "emptied")


def test_a_student_built_in_configure_model(kit: Any) -> None:
    class Later(kit.hosts["two_views"]):
        def __init__(self) -> None:
            super().__init__()
            self.kept, self.backbone = [self.backbone], None

        def configure_model(self) -> None:
            self.backbone = self.kept[0]

    def run(*callbacks: Any) -> dict[str, Tensor]:
        kit.pl.seed_everything(0)
        module = Later()
        kit.fit(module, *callbacks)
        return kit.state(module)

    baseline = run()
    assert kit.same(baseline, run(SPCallback(weight=0)))
    assert not kit.same(baseline, run(SPCallback(weight=1, warmup_fraction=0)))


def test_feature_fn_for_custom_forward(kit: Any) -> None:
    class Wants(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor, mask: Tensor) -> Tensor:
            return self.inner(images * mask)

    class Host(kit.hosts["two_views"]):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Wants(self.backbone)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.projector(self.backbone(batch[0][0], torch.ones(()))).square().mean()

    def encode(backbone: nn.Module, crops: Tensor) -> Tensor:
        return backbone(crops, mask=torch.ones(()))

    with pytest.raises(ConfigError, match=r"backbone: Wants takes no crops of 96 px.*'mask'"):
        kit.fit(Host(), SPCallback())
    callback = SPCallback(feature_fn=encode, weight=1)
    kit.fit(Host(), callback)
    assert callback.step == 4 and callback.sp.feature_dim == 16


def test_the_student_is_found(kit: Any) -> None:
    for host, name in (("two_views", "backbone"), ("teacher", "student")):
        callback = SPCallback()
        kit.fit(kit.new(host), callback)
        assert callback.backbone_name == name


def test_ambiguous_student_is_refused(kit: Any) -> None:
    module = kit.new("two_views")
    module.left = nn.ModuleDict({"student": nn.Linear(2, 2)})
    module.right = nn.ModuleDict({"student": nn.Linear(2, 2)})
    with pytest.raises(ConfigError, match=r"several that it may be: left\.student, right\.student"):
        kit.fit(module, SPCallback())
    nameless = kit.new("two_views")
    nameless.features = nameless.backbone
    del nameless.backbone
    with pytest.raises(ConfigError, match="trains projector, features: name one of"):
        kit.fit(nameless, SPCallback())


def test_resume_without_sp(kit: Any, tmp_path: Any) -> None:
    """Weight 0 goes on from an SP checkpoint; without the callback Lightning names it."""
    kit.fit(kit.new("two_views"), SPCallback(), max_epochs=1).save_checkpoint(tmp_path / "sp.ckpt")
    module, callback = kit.new("two_views"), SPCallback(weight=0)
    kit.fit(module, callback, ckpt_path=tmp_path / "sp.ckpt")
    assert callback.step == 4
    with (
        pytest.raises(ValueError, match="parameter group"),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        kit.fit(kit.new("two_views"), ckpt_path=tmp_path / "sp.ckpt")
    assert any("SPCallback" in str(warning.message) for warning in caught)


class _ViewPairs(TensorDataset):
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        super().__init__(torch.rand(16, 2, 3, 32, 32, generator=generator))

    def __getitem__(self, index: int) -> Any:
        (pair,) = super().__getitem__(index)
        return list(pair), index
