"""What a Trainer's user can do: sources, evaluation, classes of one's own, and the refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

hf = pytest.importorskip(
    "transformers", reason="needs transformers (pip install sp-plugin[transformers])"
)

from hf_models import MODELS, SIZE, STEPS, Images, TwoViews, make, state_of  # noqa: E402
from sp_transformers import SPTrainer, SPTrainerMixin  # noqa: E402
from sp_transformers.student import find_backbone  # noqa: E402

from sp_plugin import ConfigError, SPTransform, ViewBoxTransform  # noqa: E402


def hooks_of(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


@pytest.mark.parametrize("name", ["mae", pytest.param("dinov2", marks=pytest.mark.slow)])
def test_crops_of_the_image_reach_sp(name: str, tmp_path: Path):
    sp = {"weight": 1.0, "source": "image"}
    transform = SPTransform(lambda image: image, crop_size=SIZE)
    data = Images(transform=transform)
    trainer = make(tmp_path, MODELS[name](), sp, data=data)
    trainer.train()
    assert trainer.sp.step == STEPS


class TwoCrops:
    def __init__(self) -> None:
        self.crop = v2.RandomResizedCrop(SIZE, scale=(0.2, 0.5))

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [self.crop(image), self.crop(image)]


def test_own_views_reach_sp(tmp_path: Path):
    model, data = TwoViews(), Images(transform=ViewBoxTransform(TwoCrops()))
    trainer = make(tmp_path, model, {"weight": 1.0, "source": "host_views"}, data=data)
    before = hooks_of(model)
    trainer.train()
    assert trainer.sp.step == STEPS and hooks_of(model) == before
    assert trainer.state.log_history[0]["sp_skipped_fraction"] == 0


def test_missing_crops_are_named(tmp_path: Path):
    trainer = make(tmp_path, MODELS["mae"](), {"source": "image"})
    with pytest.raises(ConfigError, match="source: got 'image'"):
        trainer.train()
    assert not hooks_of(trainer.model)


def test_evaluation_is_without_sp(tmp_path: Path):
    sp = {"weight": 1.0, "source": "image"}
    data = Images(transform=SPTransform(lambda image: image, crop_size=SIZE))
    trainer = make(
        tmp_path, MODELS["mae"](), sp, data=data, eval_strategy="steps", eval_steps=2,
        label_names=["pixel_values"], trainer_settings={"eval_dataset": Images(8)},
    )  # fmt: skip
    trainer.train()
    lines = [line for line in trainer.state.log_history if "eval_loss" in line]
    assert trainer.sp.step == STEPS and len(lines) == 2
    assert not any(name.startswith("eval_sp") or name == "sp_loss" for name in lines[0])


class OwnLoss(hf.Trainer):
    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        outputs = model(inputs.pop("pixel_values"), **inputs)
        loss = 2 * outputs["loss"]
        return (loss, outputs) if return_outputs else loss


@pytest.mark.slow
def test_mixin_keeps_a_loss_of_ones_own(tmp_path: Path):
    class WithSP(SPTrainerMixin, OwnLoss):
        pass

    baseline = make(tmp_path, MODELS["mae"](), cls=OwnLoss)
    baseline.train()
    with_sp = make(tmp_path, MODELS["mae"](), {"weight": 0.0}, cls=WithSP)
    with_sp.train()
    assert with_sp.sp.step == STEPS
    pairs = zip(state_of(baseline.model).values(), state_of(with_sp.model).values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_loss_takes_arguments_by_position(tmp_path: Path):
    class ByPosition(SPTrainer):
        def compute_loss(
            self,
            model: nn.Module,
            inputs: Any,
            return_outputs: Any = False,
            num_items: Any = None,
            **kwargs: Any,
        ) -> Any:
            num_items = kwargs.pop("num_items_in_batch", num_items)
            return super().compute_loss(model, inputs, return_outputs, num_items)

    states = []
    for cls in (None, ByPosition):
        trainer = make(tmp_path, TwoViews(), {"weight": 1.0}, cls=cls)
        trainer.train()
        states.append(state_of(trainer.model))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_head_joins_groups_of_its_kind(tmp_path: Path):
    trainer = make(tmp_path, MODELS["mae"](), {"weight": 1.0})
    trainer.create_optimizer()
    decayed, plain = trainer.optimizer.param_groups
    assert decayed["weight_decay"] > plain["weight_decay"] == 0
    for parameter in trainer.sp.sp.head.parameters():
        group = decayed if parameter.ndim > 1 else plain
        assert any(parameter is p for p in group["params"])


def test_head_joins_the_last_layer(tmp_path: Path):
    model = TwoViews()
    layers = [model.backbone.embeddings, model.backbone.encoder, model.backbone.layernorm]
    groups = [
        {"params": layer.parameters(), "lr_scale": 0.5 ** (3 - i)} for i, layer in enumerate(layers)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer = make(tmp_path, model, {}, trainer_settings={"optimizers": (optimizer, schedule)})
    trainer.create_optimizer()
    head = trainer.sp.sp.head
    held = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    assert id(head.norm.weight) in held[2] and id(head.mlp[0].weight) in held[1]


def test_overridden_loss_is_refused(tmp_path: Path):
    class Wrong(SPTrainer):
        compute_loss = OwnLoss.compute_loss

    trainer = make(tmp_path, MODELS["mae"](), {"weight": 1.0}, cls=Wrong)
    with pytest.raises(ConfigError, match="compute_loss: that of Wrong does not reach SP's"):
        trainer.train()
    assert not hooks_of(trainer.model)


def test_checkpoint_without_sp_is_refused(tmp_path: Path):
    saving = {"save_strategy": "steps", "save_steps": 2}
    make(tmp_path, MODELS["mae"](), **saving).train()
    trainer = make(tmp_path, MODELS["mae"](), {"weight": 1.0}, **saving)
    with pytest.raises(ConfigError, match=r"resume_from_checkpoint: got .* of a run without SP"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_untrained_backbone_is_refused(tmp_path: Path):
    model = TwoViews()
    optimizer = torch.optim.SGD(model.projector.parameters(), lr=0.1)
    trainer = make(tmp_path, model, {}, trainer_settings={"optimizers": (optimizer, None)})
    with pytest.raises(ConfigError, match="sp_backbone: got Dinov2Model, which SGD does not train"):
        trainer.train()


@pytest.mark.parametrize("sharded", ["fsdp", "deepspeed"])
def test_sharded_models_are_refused(sharded: str, tmp_path: Path):
    class Sharded(SPTrainer):
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            setattr(self, f"is_{sharded}_enabled", True)

    with pytest.raises(ConfigError, match=f"{sharded}: got a configuration, takes none with SP"):
        make(tmp_path, MODELS["dinov2"](), {}, cls=Sharded)


@pytest.mark.slow
def test_training_twice_keeps_the_head(tmp_path: Path):
    trainer = make(tmp_path, MODELS["mae"](), {"weight": 1.0})
    trainer.train()
    head, count = trainer.sp.sp.head, len(trainer.optimizer.param_groups)
    trainer.train()
    assert trainer.sp.sp.head is head and trainer.sp.step == 2 * STEPS
    held = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) and len(trainer.optimizer.param_groups) == count


class Pair(nn.Module):
    def __init__(self, is_frozen: bool) -> None:
        super().__init__()
        self.student, self.teacher = TwoViews().backbone, TwoViews().backbone
        self.teacher.requires_grad_(not is_frozen)


def test_backbone_is_found():
    mae, own, pair = MODELS["mae"](), TwoViews(), Pair(is_frozen=True)
    assert find_backbone(mae) is mae
    assert find_backbone(own) is own.backbone
    assert find_backbone(pair) is pair.student
    assert find_backbone(pair, "teacher") is pair.teacher


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        (lambda: Pair(False), None, "it has student, teacher"),
        (lambda: nn.Linear(2, 2), None, "it has no model of Hugging Face"),
        (lambda: Pair(True), "studnet", "did you mean 'student'"),
    ],
)
def test_backbone_is_named_or_refused(model: Any, name: str | None, expected: str):
    with pytest.raises(ConfigError, match=expected):
        find_backbone(model(), name)
