"""SP in one module and its data, for one fit: put in piece by piece, and taken out as a whole."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sp_lightning.averaging import copies_of_module
from sp_lightning.checkpoint import exclude_from_state_dict, extend_optimizer_state
from sp_lightning.data import CropsWrapper, TrainingData
from sp_lightning.host_views import ViewBoxWrapper, recorded_view_boxes
from sp_lightning.method_patching import LossInjector, PatchedMethods
from sp_lightning.param_groups import ParamGroupIndex, add_to_param_groups
from sp_lightning.progress import training_progress
from sp_lightning.student import AUTO, find_student_name, is_trained
from sp_plugin import ConfigError, SPConfig, SPSession
from sp_plugin.batch import SPBatch, split_batch
from sp_plugin.distributed import is_sharded
from sp_plugin.nested import copy_containers

log = logging.getLogger("sp_plugin")

_NAME = "sp"  # attribute of the LightningModule that holds SP's module during fit
_MOVE_WHOLE_MODULE = ("SingleDeviceStrategy", "DDPStrategy")  # to the device, as it is


class Attachment:
    """SP in a LightningModule, from `install` in ``setup`` of its fit to `remove`.

    The student may be built after ``setup``, so SP is put into the module after each method that
    may build or replace it: the module's own ``setup`` and ``configure_model``, and
    ``configure_optimizers``, which may replace it. SP's loss joins in ``training_step``.

    Args:
        trainer: Trainer that is fitting.
        pl_module: its LightningModule.
        backbone: name of the student in the module; ``auto`` finds it.
        config: settings.
        session_for: function from the module and the student's name in it to the session.
    """

    def __init__(
        self,
        trainer: Any,
        pl_module: Any,
        backbone: str,
        config: SPConfig,
        session_for: Callable[[Any, str], SPSession],
    ) -> None:
        self._trainer, self._pl_module = trainer, pl_module
        self._backbone_name, self._finds_backbone = backbone, backbone == AUTO
        self._session_for = session_for
        self._session: SPSession | None = None
        self._plain_checkpoint: dict[str, Any] | None = None  # one to resume from, without SP
        self._joined: list[ParamGroupIndex] = []  # the group of each parameter of the head
        self._sp_batch: SPBatch | None = None  # SP's part of the batch of this step
        self._view_boxes: ViewBoxWrapper | None = None
        self._training_data: TrainingData | None = None
        self._crops: CropsWrapper | None = None
        self._loss_injector = LossInjector()
        self._config = config
        self._undo = contextlib.ExitStack()

    def install(self) -> None:
        """Patch the module's methods and the training data."""
        self._patch_methods()
        self._wrap_data()

    def remove(self) -> None:
        """Leave the module and the data as they were."""
        self._undo.close()

    @property
    def sampled_view_boxes(self) -> Tensor | None:
        """(n, V, 4), boxes of runs of the data's transform; None: none is known."""
        return self._view_boxes.sampled_boxes if self._view_boxes else None

    def check_data(self) -> None:
        """Raise the error for which the data's transforms could not be wrapped."""
        if self._training_data and self._training_data.error:
            raise self._training_data.error

    def resume_from_plain(self, checkpoint: dict[str, Any]) -> None:
        """Give the optimizer states of a plain run's checkpoint SP's parameters, without state."""
        self._plain_checkpoint = checkpoint
        self._extend_plain_checkpoint()

    def _patch_methods(self) -> None:
        methods = PatchedMethods(self._pl_module)
        self._undo.callback(methods.remove)
        for name, around in (
            ("__getstate__", _state_without_sp),
            ("setup", self._around_build),
            ("configure_model", self._around_build),
            ("configure_optimizers", self._around_configure_optimizers),
            ("on_fit_start", self._around_fit_start),
            ("on_before_batch_transfer", self._around_before_transfer),
            ("on_after_batch_transfer", self._around_after_transfer),
            ("training_step", self._around_training_step),
            ("manual_backward", self._loss_injector.manual_backward),
        ):
            methods.patch(name, around)

    def _wrap_data(self) -> None:
        if self._config.source == "view":
            return
        wrap: Callable[[Any], Any]
        if self._config.source == "host_views":
            wrap = self._view_boxes = ViewBoxWrapper()
            self._undo.callback(self._view_boxes.remove)
        else:
            wrap = self._crops = CropsWrapper(self._config)
        self._training_data = TrainingData(self._trainer, wrap)
        self._undo.callback(self._training_data.remove)

    def _attach(self) -> None:
        """Put SP into the module, for its student or another one that has taken its place."""
        pl_module = self._pl_module
        if self._finds_backbone:
            may_be_frozen = any(_is_finetuning(callback) for callback in self._trainer.callbacks)
            self._backbone_name = find_student_name(pl_module, may_be_frozen)
        present = getattr(pl_module, _NAME, None)
        if present is not None and not (self._session and present is self._session.sp):
            raise ConfigError(
                f"{type(pl_module).__name__} has an attribute {_NAME!r} already: is there a "
                "second SPCallback? One is enough, and the name is needed"
            )
        strategy = self._trainer.strategy
        if type(strategy).__name__ in _MOVE_WHOLE_MODULE:
            # The Trainer does so next; SP runs the backbone now, which may need its device.
            strategy.model_to_device()
        session = self._session = self._session_for(pl_module, self._backbone_name)
        if present is not session.sp:
            handles: list[Any] = [session, *exclude_from_state_dict(session.sp)]
            for handle in handles:
                self._undo.callback(handle.remove)
            self._undo.callback(pl_module._modules.pop, _NAME, None)
            session.install()
        # Last, where averaging of weights, which pairs parameters by their order, needs it.
        pl_module._modules.pop(_NAME, None)
        setattr(pl_module, _NAME, session.sp)
        if self._crops is not None:
            self._crops.take_shape_of(session.sp.config)
        session.sp.unfreeze_head()  # before DDP lists what is trained
        self._share_with_copies()

    def _share_with_copies(self) -> None:
        """Put SP's own module, which is not averaged, into copies of the module for averaging."""
        for copied in copies_of_module(self._trainer, self._pl_module):
            if _NAME not in copied._modules:
                copied.add_module(_NAME, self._pl_module.get_submodule(_NAME))
                self._undo.callback(copied._modules.pop, _NAME, None)

    def _extend_plain_checkpoint(self) -> None:
        if self._plain_checkpoint is not None and self._joined:
            extend_optimizer_state(self._plain_checkpoint.get("optimizer_states", []), self._joined)
            self._plain_checkpoint = None

    # Around the module's own methods

    def _around_build(self, original: Any, **kwargs: Any) -> Any:
        """Round a method of the module that may build the student, or replace it."""
        output = original(**kwargs)
        is_last = original.__name__ == "configure_model" or not _builds_later(self._pl_module)
        with contextlib.nullcontext() if is_last else contextlib.suppress(ConfigError):
            self._attach()
        return output

    def _around_configure_optimizers(self, original: Any) -> Any:
        configured = original()
        self._attach()
        assert self._session is not None
        head, strategy = self._session.sp.head, type(self._trainer.strategy).__name__
        try:
            self._joined = add_to_param_groups(
                self._pl_module, self._backbone_name, head, configured
            )
        except ConfigError as error:
            if "DeepSpeed" not in strategy:
                raise
            raise ConfigError(
                f"strategy: got {strategy}, whose one optimizer cannot take SP's head ({error}); "
                "takes another, such as 'ddp' or 'fsdp'"
            ) from error
        if not is_trained(self._pl_module.get_submodule(self._backbone_name)):
            log.warning(
                "SP: %r is frozen; SP does not act on it until it is unfrozen", self._backbone_name
            )
        is_clipped = self._config.weight > 0 and self._trainer.gradient_clip_val
        is_whole = not all(is_sharded(parameter) for parameter in head.parameters())
        if is_clipped and "ModelParallel" in strategy and is_whole:
            raise ConfigError(
                f"gradient_clip_val: got {self._trainer.gradient_clip_val} with {strategy}, which "
                "clips shards alone, and SP's head is whole; takes None"
            )
        return configured

    def _around_fit_start(self, original: Any) -> None:
        original()
        if self._plain_checkpoint is not None:
            assert self._session is not None
            # Again: Lightning's BaseFinetuning has taken the checkpoint's groups, without the head.
            self._joined = add_to_param_groups(
                self._pl_module,
                self._backbone_name,
                self._session.sp.head,
                self._trainer.optimizers,
            )
            self._extend_plain_checkpoint()

    def _around_before_transfer(self, original: Any, batch: Any, dataloader_idx: int) -> Any:
        self._sp_batch = None
        return original(self._split_batch(batch), dataloader_idx)

    def _around_after_transfer(self, original: Any, batch: Any, dataloader_idx: int) -> Any:
        return original(self._split_batch(batch), dataloader_idx)

    def _around_training_step(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._trainer.training:  # called in validation, which may share the step
            return original(*args, **kwargs)
        assert self._session is not None
        self._share_with_copies()  # with those that were made since
        batch = self._split_batch(args[0])  # again: a datamodule's own transfer hook comes first
        step = functools.partial(original, batch, *args[1:], **kwargs)
        # The step may take parts out of its batch.
        sp_loss = functools.partial(self._sp_loss, self._session, copy_containers(batch))
        student = self._pl_module.get_submodule(self._backbone_name)
        with self._session.capture():
            head = self._session.sp.head
            return self._loss_injector.training_step(self._pl_module, student, head, step, sp_loss)

    def _split_batch(self, batch: Any) -> Any:
        """The method's own batch; SP's part is stored for the step."""
        batch, sp_batch = split_batch(batch)
        if sp_batch is None and self._config.source == "host_views":
            sp_batch = recorded_view_boxes(batch)
        self._sp_batch = sp_batch or self._sp_batch
        return batch

    def _sp_loss(self, session: SPSession, batch: Any) -> Tensor:
        trainer, pl_module = self._trainer, self._pl_module
        session.backbone = pl_module.get_submodule(self._backbone_name)
        session.sp.unfreeze_head()  # frozen, with the module or a copy that shares it
        # With tensor parallelism several ranks share a batch.
        rank = (trainer.distributed_sampler_kwargs or {}).get("rank", trainer.global_rank)
        out = session(batch, self._sp_batch, progress=training_progress(trainer), rank=rank)
        metrics = out.loggable_metrics("train_sp_")
        batch_size = len(session.find_view(batch))
        pl_module.log_dict(metrics, on_step=False, on_epoch=True, batch_size=batch_size)
        return out.loss


def _state_without_sp(original: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The module's state to pickle or copy, without SP."""
    state = original()
    modules = copy.copy(state["_modules"])
    modules.pop(_NAME, None)
    return {**state, "_modules": modules}


def _builds_later(pl_module: nn.Module) -> bool:
    """Whether the module makes its parts in ``configure_model``, which follows its ``setup``."""
    method = getattr(type(pl_module), "configure_model", None)
    package = method.__module__.split(".")[0] if method else "lightning"
    return package not in ("lightning", "pytorch_lightning")


def _is_finetuning(callback: Any) -> bool:
    """Whether a callback is one of Lightning's that freeze parts at first."""
    return any(cls.__name__ == "BaseFinetuning" for cls in type(callback).__mro__)
