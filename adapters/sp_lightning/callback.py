"""SPCallback: one line in the Trainer adds SP to a LightningModule, which stays unedited."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from sp_lightning.averaging import copies_of_module
from sp_lightning.callback_base import loaded_packages, with_packages
from sp_lightning.checkpoint import exclude_from_state_dict, extend_optimizer_state
from sp_lightning.data import TrainingData, wrap_with_crops
from sp_lightning.host_views import ViewBoxWrapper, recorded_view_boxes
from sp_lightning.method_patching import LossInjector, PatchedMethods
from sp_lightning.param_groups import ParamGroupIndex, add_to_param_groups
from sp_lightning.progress import training_progress
from sp_lightning.settings_signature import explicit_settings, with_signature_of
from sp_lightning.student import AUTO, find_backbone, find_student_name
from sp_plugin import ConfigError, SpatialPrediction, SPConfig, SPSession
from sp_plugin.batch import SPBatch, split_batch
from sp_plugin.features.backbone_call import FeatureFn, call_feature_module
from sp_plugin.validation import choice, invalid_value

log = logging.getLogger("sp_plugin")

_NAME = "sp"  # attribute of the LightningModule that holds SP's module during fit


class SPCallbackMixin:
    """Adds the Spatial Prediction loss to the module that is being fitted.

    While ``fit`` runs, the module has a submodule ``sp``, and some of its methods are patched on
    the instance (`sp_lightning.method_patching`); afterwards it is as before. The module's state
    dict, its copies and its pickles are those of a plain run throughout. SP acts in training steps
    alone, also where validation calls ``training_step``. The order of callbacks does not matter.
    SP's metrics go through the module's own logger:
    ``train_sp_loss``, ``train_sp_r2_dx``, ``train_sp_r2_dy``, ``train_sp_r2_scale``,
    ``train_sp_weight``, ``train_sp_skipped_fraction``.

    Args:
        backbone: name of the student in the module, such as ``backbone`` or
            ``student_backbone``, with dots for a part of a part; ``auto`` finds it.
        config: settings, as an `SPConfig` or a mapping.
        feature_fn: ``feature_fn(backbone, crops)`` for a backbone whose features are not what
            calling it gives; its output is pooled like any other.
        on_nonfinite: ``record`` keeps each step whose loss or features are not finite in a small
            file, from which `sp_plugin.replay` cuts its crops again; ``skip`` counts it only. Both
            leave SP out of the step.
        record_folder: folder of these files.
        **settings: settings by name, over those of ``config``.

    Raises:
        ConfigError: a bad setting, no such backbone or several, or one that no optimizer trains.

    Attributes:
        sp_class: class of the module that is added, `SpatialPrediction` or a subclass.
        announce: function that gets the line "SP is on: ..."; None: Lightning's
            ``rank_zero_info``.

    >>> from sp_lightning import SPCallback
    >>> callback = SPCallback(weight=0.3)
    """

    sp_class: type[SpatialPrediction] = SpatialPrediction
    announce: Callable[[str], None] | None = None

    @explicit_settings
    def __init__(
        self,
        backbone: str = AUTO,
        config: SPConfig | Mapping[str, Any] | None = None,
        feature_fn: FeatureFn | None = None,
        on_nonfinite: str = "skip",
        record_folder: str = "sp_nonfinite",
        **settings: Any,
    ) -> None:
        self.config = SPConfig.from_dict(config, **settings)
        if feature_fn is not None and self.config.source == "host_views":
            expected = "none where source is 'host_views': the method calls the backbone itself"
            raise invalid_value("feature_fn", feature_fn, expected)
        self.backbone = backbone
        self.feature_fn = feature_fn
        self.on_nonfinite = choice("skip", "record")("on_nonfinite", on_nonfinite)
        self.record_folder = record_folder
        self.session: SPSession | None = None
        self._owner: weakref.ref[Any] | None = None  # the module that the session belongs to
        self._backbone_name = backbone  # of the student, once it is found
        self._undo = contextlib.ExitStack()
        self._resumed_state: dict[str, Any] | None = None  # from a checkpoint
        self._plain_checkpoint: dict[str, Any] | None = None  # one to resume from, without SP
        self._joined: list[ParamGroupIndex] = []  # the group of each parameter of the head
        self._sp_batch: SPBatch | None = None  # SP's part of the batch of this step
        self._view_boxes: ViewBoxWrapper | None = None
        self._training_data: TrainingData | None = None

    @with_signature_of(__init__)
    def __new__(cls, *args: Any, **settings: Any) -> Any:
        # A Trainer expects the Callback of its own package, which may be loaded by now only.
        owner: Any = cls
        return object.__new__(with_packages(owner, loaded_packages()))

    def __getstate__(self) -> dict[str, Any]:
        # Not all of __dict__: the Trainer sets the module's own log functions on a callback.
        names = (
            "backbone", "config", "feature_fn", "on_nonfinite", "record_folder", "session",
            "sp_class", "announce",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["backbone"], state["config"], state["feature_fn"])  # type: ignore[misc]
        self.__dict__.update(state)

    @property
    def sp(self) -> SpatialPrediction | None:
        """The module with SP's parameters; None before the first fit."""
        return self.session.sp if self.session else None

    @property
    def step(self) -> int:
        """Number of training steps with SP."""
        return self.session.step if self.session else 0

    # Hooks that Lightning calls

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self._detach()
            self._undo.callback(self._forget)
            self._patch_methods(trainer, pl_module)
            self._wrap_data(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._training_data and self._training_data.error:
            raise self._training_data.error

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self._detach()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._detach()  # Lightning calls no teardown then

    @property
    def state_key(self) -> str:
        return "SPCallback"

    def state_dict(self) -> dict[str, Any]:
        return self.session.state_dict() if self.session else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed_state = state_dict  # Lightning 2.1 loads it before configure_model
        self._resume()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if not checkpoint.get("callbacks", {}).get(self.state_key):
            log.warning("SP: the checkpoint is of a run without SP; SP's head starts anew")
            self._plain_checkpoint = checkpoint
            self._extend_plain_checkpoint()

    # Installation in the module and the data, and removal

    def _patch_methods(self, trainer: Any, pl_module: Any) -> None:
        methods, injector = PatchedMethods(pl_module), LossInjector()
        self._undo.callback(methods.remove)
        attached, configure, step = (
            functools.partial(method, trainer, pl_module)
            for method in (self._attached, self._configure_optimizers, self._training_step)
        )
        for name, around in (
            ("__getstate__", _state_without_sp),
            ("setup", attached),
            ("configure_model", attached),
            ("configure_optimizers", configure),
            ("on_before_batch_transfer", self._before_batch_transfer),
            ("on_after_batch_transfer", self._after_batch_transfer),
            ("training_step", functools.partial(step, injector)),
            ("manual_backward", injector.manual_backward),
        ):
            methods.patch(name, around)

    def _wrap_data(self, trainer: Any) -> None:
        if self.config.source == "view":
            return
        wrap: Callable[[Any], Any] = functools.partial(wrap_with_crops, self.config)
        if self.config.source == "host_views":
            wrap = self._view_boxes = ViewBoxWrapper()
            self._undo.callback(self._view_boxes.remove)
        self._training_data = TrainingData(trainer, wrap)
        self._undo.callback(self._training_data.remove)

    def _attached(self, trainer: Any, pl_module: Any, original: Any, **kwargs: Any) -> Any:
        """Round a method of the module that may build the student, or replace it."""
        output = original(**kwargs)
        is_last = original.__name__ == "configure_model" or not _builds_later(pl_module)
        with contextlib.nullcontext() if is_last else contextlib.suppress(ConfigError):
            self._attach(trainer, pl_module)
        return output

    def _attach(self, trainer: Any, pl_module: Any) -> None:
        """Put SP into the module, for its student or another one that has taken its place."""
        if self.backbone == AUTO:
            may_be_frozen = any(_is_finetuning(callback) for callback in trainer.callbacks)
            self._backbone_name = find_student_name(pl_module, may_be_frozen)
        backbone = find_backbone(pl_module, self._backbone_name)
        present = getattr(pl_module, _NAME, None)
        if present is not None and not (self.session and present is self.session.sp):
            raise ConfigError(
                f"{type(pl_module).__name__} has an attribute {_NAME!r} already: is there a "
                "second SPCallback? One is enough, and the name is needed"
            )
        session = self._session_for(pl_module, backbone)
        if present is not session.sp:
            handles: list[Any] = [session, *exclude_from_state_dict(session.sp)]
            for handle in handles:
                self._undo.callback(handle.remove)
            self._undo.callback(pl_module._modules.pop, _NAME, None)
            session.install()
        # Last, where averaging of weights, which pairs parameters by their order, needs it.
        pl_module._modules.pop(_NAME, None)
        setattr(pl_module, _NAME, session.sp)
        self._share_with_copies(trainer, pl_module)

    def _session_for(self, pl_module: Any, backbone: nn.Module) -> SPSession:
        """The session of this module and student; of another one it keeps the head that fits."""
        before = self.session
        if before is not None and (self._owner is None or self._owner() is not pl_module):
            before = None
        if before is not None and before.backbone is backbone:
            return before
        uses_host_views = self.config.source == "host_views"
        # The method's own calls are calls of the module, whatever else its backbone offers.
        feature_fn = call_feature_module if uses_host_views else self.feature_fn
        sp = self.sp_class.from_backbone(backbone, None, self.config, feature_fn)
        if before is not None:
            before.remove()
            sp = before.sp if before.sp.feature_dim == sp.feature_dim else sp
        self.session = SPSession(
            backbone,
            sp=sp,
            sample_view_boxes=self._sampled_view_boxes,
            announce=self.announce or _rank_zero_info(pl_module),
            on_nonfinite=self.on_nonfinite,
            record_folder=self.record_folder,
            sync_head=False,  # a part of the module, which the Trainer wraps
        )
        self.session.step = before.step if before else 0
        self._owner = weakref.ref(pl_module)
        self._resume()
        return self.session

    def _resume(self) -> None:
        if self.session and self._resumed_state:
            self.session.load_state_dict(self._resumed_state)

    def _share_with_copies(self, trainer: Any, pl_module: Any) -> None:
        """Put SP's own module, which is not averaged, into copies of the module for averaging."""
        for copied in copies_of_module(trainer, pl_module):
            if _NAME not in copied._modules:
                copied.add_module(_NAME, pl_module.get_submodule(_NAME))
                self._undo.callback(copied._modules.pop, _NAME, None)

    def _detach(self) -> None:
        """Leave the module and the data as they were, if SP is in them."""
        self._undo.close()

    def _forget(self) -> None:
        self._resumed_state = self._plain_checkpoint = self._view_boxes = self._sp_batch = None
        self._training_data = None
        self._joined = []

    def _sampled_view_boxes(self) -> Tensor | None:
        return self._view_boxes.sampled_boxes if self._view_boxes else None

    # Around the module's own methods

    def _configure_optimizers(self, trainer: Any, pl_module: Any, original: Any) -> Any:
        configured = original()
        self._attach(trainer, pl_module)
        assert self.session is not None
        head, strategy = self.session.sp.head, type(trainer.strategy).__name__
        try:
            self._joined = add_to_param_groups(pl_module, self._backbone_name, head, configured)
        except ConfigError as error:
            if "DeepSpeed" not in strategy:
                raise
            raise ConfigError(
                f"strategy: got {strategy}, whose one optimizer cannot take SP's head ({error}); "
                "takes another, such as 'ddp' or 'fsdp'"
            ) from error
        self._extend_plain_checkpoint()
        return configured

    def _extend_plain_checkpoint(self) -> None:
        if self._plain_checkpoint is not None and self._joined:
            extend_optimizer_state(self._plain_checkpoint.get("optimizer_states", []), self._joined)
            self._plain_checkpoint = None

    def _before_batch_transfer(self, original: Any, batch: Any, dataloader_idx: int) -> Any:
        self._sp_batch = None
        return original(self._split_batch(batch), dataloader_idx)

    def _after_batch_transfer(self, original: Any, batch: Any, dataloader_idx: int) -> Any:
        return original(self._split_batch(batch), dataloader_idx)

    def _training_step(
        self, trainer: Any, pl_module: Any, injector: LossInjector, original: Any, *args: Any,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        if not trainer.training:  # called in validation, which may share the step
            return original(*args, **kwargs)
        assert self.session is not None
        self._share_with_copies(trainer, pl_module)  # with those that were made since
        batch = self._split_batch(args[0])  # again: a datamodule's own transfer hook comes first
        step = functools.partial(original, batch, *args[1:], **kwargs)
        sp_loss = functools.partial(self._sp_loss, trainer, pl_module, self.session, batch)
        with self.session.capture():
            return injector.training_step(pl_module, step, sp_loss)

    def _split_batch(self, batch: Any) -> Any:
        """The method's own batch; SP's part is stored for the step."""
        batch, sp_batch = split_batch(batch)
        if sp_batch is None and self.config.source == "host_views":
            sp_batch = recorded_view_boxes(batch)
        self._sp_batch = sp_batch or self._sp_batch
        return batch

    def _sp_loss(self, trainer: Any, pl_module: Any, session: SPSession, batch: Any) -> Tensor:
        session.backbone = pl_module.get_submodule(self._backbone_name)
        out = session(
            batch, self._sp_batch, progress=training_progress(trainer), rank=trainer.global_rank
        )
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


def _rank_zero_info(pl_module: Any) -> Any:
    """The function by which the module's own Lightning package prints a line."""
    for cls in type(pl_module).__mro__:
        if cls.__name__ == "LightningModule":
            package = cls.__module__.split(".core")[0]
            return importlib.import_module(f"{package}.utilities.rank_zero").rank_zero_info
    return log.info
