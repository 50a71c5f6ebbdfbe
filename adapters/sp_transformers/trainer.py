"""SPTrainerMixin: SP's loss in Hugging Face's Trainer, through the methods that it has overridden.

Three things of the Trainer need care. It sets the gradients of its model to zero and of nothing
else, so those of SP's head are set to zero here. It divides the loss of a batch by the number of
accumulated batches, but for losses that are scaled already. And it runs the model's forward pass,
not that of a part of the model, in mixed precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from sp_plugin import ConfigError, SPConfig, SPSession
from sp_plugin.batch import split_batch
from sp_plugin.features.backbone_call import FeatureFn
from sp_plugin.nested import copy_containers
from sp_plugin.param_groups import best_group
from sp_plugin.validation import boolean
from sp_transformers.student import find_backbone

__all__ = ["SPTrainer", "SPTrainerMixin"]

STATE_FILE = "sp.pt"  # of SP in the folder of a checkpoint


class SPTrainerMixin:
    """Adds the Spatial Prediction loss to a Trainer, whose class follows it in the list of bases.

    The model stays as it is, and so do its checkpoints: SP's head is no part of it. Its state is
    saved next to the optimizer's, and is read where training is resumed. SP acts in training steps
    alone. ``log`` gets ``sp_loss`` and SP's other metrics, of the last batch.

    Args:
        *args: as for the Trainer.
        sp: settings, as an `SPConfig` or a mapping.
        sp_backbone: dotted name of the student in the model; None: see
            `sp_transformers.student.find_backbone`.
        sp_feature_fn: ``feature_fn(backbone, crops)`` for a backbone whose features are not what
            calling it gives.
        sp_probe: whether a `sp_plugin.SpatialProbe` measures the run too, and ``log`` gets its
            metrics; with ``sp={"weight": 0}`` it measures the run as it is without SP.
        **kwargs: as for the Trainer.

    Attributes:
        sp: the `SPSession`; None before training.

    Raises:
        ConfigError: a bad setting, no such backbone, one that the optimizer does not train, or
            FSDP or DeepSpeed.

    >>> class MyTrainer(SPTrainerMixin, Trainer):
    ...     def get_decay_parameter_names(self, model):
    ...         return [name for name, p in model.named_parameters() if p.ndim > 1]
    >>> issubclass(MyTrainer, Trainer)
    True
    """

    def __init__(
        self,
        *args: Any,
        sp: SPConfig | Mapping[str, Any] | None = None,
        sp_backbone: str | None = None,
        sp_feature_fn: FeatureFn | None = None,
        sp_probe: bool = False,
        **kwargs: Any,
    ) -> None:
        self.sp: SPSession | None = None
        self._sp_config = SPConfig.from_dict(sp)
        self._sp_backbone, self._sp_feature_fn = sp_backbone, sp_feature_fn
        self._sp_probe = boolean("sp_probe", sp_probe)
        self._sp_metrics: dict[str, Tensor] = {}
        super().__init__(*args, **kwargs)
        trainer: Any = self
        for name in ("fsdp", "deepspeed"):
            if getattr(trainer, f"is_{name}_enabled"):
                raise ConfigError(
                    f"{name}: got a configuration, takes none with SP, whose head and gradients "
                    "are not sharded; DDP works"
                )
        trainer.add_callback(_ZeroHeadGradients(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().train(*args, **kwargs)  # type: ignore[misc]
        finally:
            if self.sp is not None:
                self.sp.remove()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        trainer: Any = self
        backbone = find_backbone(trainer.model, self._sp_backbone)
        if self.sp is None or self.sp.backbone is not backbone:
            self.sp = SPSession(
                backbone,
                self._sp_config,
                feature_fn=self._sp_feature_fn,
                probe=self._sp_probe,
            )
        _add_to_param_group(trainer.optimizer, backbone, self.sp.sp.head)
        return optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        assert self.sp is not None
        before = self.sp.step
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if self.sp.step == before:
            name = type(self).__name__
            raise ConfigError(
                f"compute_loss: that of {name} does not reach SP's; takes a class with the mixin "
                f"first, such as `class {name}WithSP(SPTrainerMixin, {name})`"
            )
        return loss

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        trainer: Any = self
        if args:  # by position, as the Trainer's own takes it too
            (kwargs["num_items_in_batch"],) = args
        compute_loss = super().compute_loss  # type: ignore[misc]
        batch, sp_batch = split_batch(inputs)
        if self.sp is None or not (model.training and torch.is_grad_enabled()):
            return compute_loss(model, batch, return_outputs=return_outputs, **kwargs)
        progress = trainer.state.global_step / trainer.state.max_steps
        copied = copy_containers(batch)  # a loss of the user's may take parts out of it
        with self.sp.capture():
            result = compute_loss(model, batch, return_outputs=return_outputs, **kwargs)
            with trainer.accelerator.autocast():
                out = self.sp(copied, sp_batch, progress=progress)
        self._sp_metrics = out.loggable_metrics("sp_")
        sp_loss = out.loss
        if _is_scaled(trainer, kwargs.get("num_items_in_batch")):
            sp_loss = sp_loss / trainer.current_gradient_accumulation_steps
        if return_outputs:
            loss, outputs = result
            return loss + sp_loss, outputs
        return result + sp_loss

    def prediction_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        batch = split_batch(inputs)[0]
        return super().prediction_step(model, batch, *args, **kwargs)  # type: ignore[misc]

    def floating_point_ops(self, inputs: Any) -> int:
        return int(super().floating_point_ops(split_batch(inputs)[0]))  # type: ignore[misc]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:  # of training
            probe = self.sp.probe.metrics() if self.sp and self.sp.probe else {}
            metrics = {**self._sp_metrics, **probe}
            logs.update({name: value.item() for name, value in metrics.items()})
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        trainer: Any = self
        if trainer.args.should_save and self.sp is not None:
            torch.save(self.sp.state_dict(), Path(output_dir) / STATE_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self.sp is not None:
            path = Path(checkpoint) / STATE_FILE
            if path.exists():
                self.sp.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
            elif (path.parent / "optimizer.pt").exists():
                raise ConfigError(
                    f"resume_from_checkpoint: got {checkpoint!r}, of a run without SP, takes one "
                    f"with a file {STATE_FILE}; to start SP from its weights, load them with "
                    "from_pretrained"
                )
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]


class SPTrainer(SPTrainerMixin, Trainer):
    """Hugging Face's Trainer with SP: `SPTrainerMixin` before `transformers.Trainer`."""


class _ZeroHeadGradients(TrainerCallback):
    """Sets the gradients of SP's head to zero where the Trainer does so for its model."""

    def __init__(self, trainer: SPTrainerMixin) -> None:
        self._trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._trainer.sp is not None:
            self._trainer.sp.sp.zero_grad()


def _is_scaled(trainer: Any, num_items_in_batch: Any) -> bool:
    """Whether the Trainer takes the loss of a batch as a part of that of all accumulated ones."""
    if (is_scaled := getattr(trainer, "loss_is_scaled_for_ga", None)) is not None:
        return bool(is_scaled)
    by_model = trainer.model_accepts_loss_kwargs and num_items_in_batch is not None
    return bool(by_model or trainer.compute_loss_func is not None)


def _add_to_param_group(optimizer: Any, backbone: nn.Module, head: nn.Module) -> None:
    """Add the head to groups of the backbone: its weights to one with weights, its biases likewise.

    A group of its own would break schedulers that were built for a number of groups.

    Raises:
        ConfigError: the optimizer trains no parameter of the backbone.
    """
    groups: list[dict[str, Any]] = optimizer.param_groups
    trained = {id(p) for group in groups for p in group["params"]}
    wanted = {id(p) for p in backbone.parameters()}
    candidates = [g for g in groups if any(id(p) in wanted for p in g["params"])]
    if not candidates:
        raise ConfigError(
            f"sp_backbone: got {type(backbone).__name__}, which {type(optimizer).__name__} does "
            "not train; takes the part of the model that is trained"
        )
    for parameter in head.parameters():
        if id(parameter) not in trained:
            best_group(candidates, parameter)["params"].append(parameter)
