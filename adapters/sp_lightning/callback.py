"""SPCallback: one line in the Trainer adds SP to a LightningModule, which stays unedited."""

from __future__ import annotations

import functools
import importlib
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from sp_lightning.callback_base import loaded_packages, with_packages
from sp_lightning.checkpoint import exclude_from_state_dict, extend_optimizer_state
from sp_lightning.data import TransformPatcher, wrap_with_crops
from sp_lightning.host_views import ViewBoxWrapper
from sp_lightning.method_patching import LossInjector, PatchedMethods
from sp_lightning.progress import training_progress
from sp_lightning.student import AUTO, add_to_param_group, find_backbone, find_student_name
from sp_plugin import ConfigError, SpatialPrediction, SPConfig, SPSession
from sp_plugin.batch import SPBatch, first_view, split_batch
from sp_plugin.features.extraction import FeatureFn
from sp_plugin.validation import invalid_value

log = logging.getLogger("sp_plugin")

_NAME = "sp"  # attribute of the LightningModule that holds SP's module during fit


class SPCallbackMixin:
    """Adds the Spatial Prediction loss to the module that is being fitted.

    While ``fit`` runs, the module has a submodule ``sp``, and some of its methods are patched on
    the instance (`sp_lightning.method_patching`); afterwards it is as before. The module's state
    dict is that of a plain run throughout. SP's metrics go through the module's own logger:
    ``train_sp_loss``, ``train_sp_r2_dx``, ``train_sp_r2_dy``, ``train_sp_r2_scale``,
    ``train_sp_weight``, ``train_sp_skipped_fraction``.

    Args:
        backbone: name of the student in the module, such as ``backbone`` or
            ``student_backbone``, with dots for a part of a part; ``auto`` finds it.
        config: settings, as an `SPConfig` or a mapping.
        feature_fn: ``feature_fn(backbone, crops)`` for a backbone whose features are not what
            calling it gives; its output is pooled like any other.
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

    def __new__(cls, *args: Any, **kwargs: Any) -> SPCallbackMixin:
        # A Trainer expects the Callback of its own package, which may be loaded by now only.
        owner: Any = cls
        return cast(SPCallbackMixin, object.__new__(with_packages(owner, loaded_packages())))

    def __init__(
        self,
        backbone: str = AUTO,
        config: SPConfig | Mapping[str, Any] | None = None,
        feature_fn: FeatureFn | None = None,
        **settings: Any,
    ) -> None:
        self.config = SPConfig.from_dict(config, **settings)
        if feature_fn is not None and self.config.source == "host_views":
            expected = "none where source is 'host_views': the method calls the backbone itself"
            raise invalid_value("feature_fn", feature_fn, expected)
        self.backbone = backbone
        self.feature_fn = feature_fn
        self.session: SPSession | None = None
        self._owner: weakref.ref[Any] | None = None  # the module that the session belongs to
        self._backbone_name = backbone  # of the student, once it is found
        self._undo: list[Any] = []
        self._plain_checkpoint: dict[str, Any] | None = None  # one to resume from, without SP
        self._sp_batch: SPBatch | None = None  # SP's part of the batch of this step
        self._view_boxes: ViewBoxWrapper | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Not all of __dict__: the Trainer sets the module's own log functions on a callback.
        names = ("backbone", "config", "feature_fn", "session", "sp_class", "announce")
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
        if stage != "fit":
            return
        self._detach(pl_module)
        self._check_name_free(pl_module)
        methods = self._patch_methods(trainer, pl_module)
        self._patch_data(trainer)
        try:
            self._attach(pl_module)
        except ConfigError:
            if not _builds_in_configure_model(pl_module):
                raise
            after = functools.partial(self._after_configure_model, pl_module)
            methods.patch("configure_model", after)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self._detach(pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._detach(pl_module)  # Lightning calls no teardown then

    @property
    def state_key(self) -> str:
        return "SPCallback"

    def state_dict(self) -> dict[str, Any]:
        return self.session.state_dict() if self.session else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.session and state_dict:
            self.session.load_state_dict(state_dict)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self.session and not checkpoint.get("callbacks", {}).get(self.state_key):
            log.warning("SP: the checkpoint is of a run without SP; SP's head starts anew")
            self._plain_checkpoint = checkpoint

    # Installation in the module and the data, and removal

    def _patch_methods(self, trainer: Any, pl_module: Any) -> PatchedMethods:
        methods, injector = PatchedMethods(pl_module), LossInjector()
        self._undo.append(methods)
        step = functools.partial(self._training_step, trainer, pl_module, injector)
        methods.patch("training_step", step)
        methods.patch("manual_backward", injector.manual_backward)
        optimizers = functools.partial(self._configure_optimizers, pl_module)
        methods.patch("configure_optimizers", optimizers)
        methods.patch("on_before_batch_transfer", self._before_batch_transfer)
        methods.patch("on_after_batch_transfer", self._after_batch_transfer)
        return methods

    def _patch_data(self, trainer: Any) -> None:
        if self.config.source == "image":
            self._undo.append(TransformPatcher(trainer, wrap_with_crops(self.config)))
        if self.config.source == "host_views":
            self._view_boxes = ViewBoxWrapper()
            self._undo.append(self._view_boxes)
            self._undo.append(TransformPatcher(trainer, self._view_boxes))

    def _attach(self, pl_module: Any) -> None:
        auto = self.backbone == AUTO
        self._backbone_name = find_student_name(pl_module) if auto else self.backbone
        backbone = find_backbone(pl_module, self._backbone_name)
        is_owner = self._owner is not None and self._owner() is pl_module
        if self.session is None or not is_owner:
            uses_host_views = self.config.source == "host_views"
            # The method's own calls are calls of the module, whatever else its backbone offers.
            feature_fn = nn.Module.__call__ if uses_host_views else self.feature_fn
            self.session = SPSession(
                backbone,
                sp=self.sp_class.from_backbone(backbone, None, self.config, feature_fn),
                sample_view_boxes=self._sampled_view_boxes,
                announce=self.announce or _rank_zero_info(pl_module),
            )
            self._owner = weakref.ref(pl_module)
        self.session.backbone = backbone
        self.session.install()
        self._undo.append(self.session)
        setattr(pl_module, _NAME, self.session.sp)
        self._undo += exclude_from_state_dict(pl_module, _NAME)

    def _detach(self, pl_module: Any) -> None:
        """Leave the module and the data as they were, if SP is in them."""
        for handle in self._undo:
            handle.remove()
        self._undo, self._view_boxes = [], None
        if self.session and pl_module._modules.get(_NAME) is self.session.sp:
            delattr(pl_module, _NAME)

    def _check_name_free(self, pl_module: Any) -> None:
        if hasattr(pl_module, _NAME):
            raise ConfigError(
                f"{type(pl_module).__name__} has an attribute {_NAME!r} already: is there a "
                "second SPCallback? One is enough, and the name is needed"
            )

    def _sampled_view_boxes(self) -> Tensor | None:
        return self._view_boxes.sampled_boxes if self._view_boxes else None

    # Around the module's own methods

    def _after_configure_model(self, pl_module: Any, original: Any) -> None:
        original()
        if not hasattr(pl_module, _NAME):
            self._attach(pl_module)

    def _configure_optimizers(self, pl_module: Any, original: Any) -> Any:
        configured = original()
        assert self.session is not None
        head = self.session.sp.head
        group = add_to_param_group(pl_module, self._backbone_name, head, configured)
        if self._plain_checkpoint is not None:
            count = len(list(head.parameters()))
            extend_optimizer_state(self._plain_checkpoint["optimizer_states"], group, count)
            self._plain_checkpoint = None
        return configured

    def _before_batch_transfer(self, original: Any, batch: Any, dataloader_idx: int) -> Any:
        self._sp_batch = None
        return original(self._split_batch(batch), dataloader_idx)

    def _after_batch_transfer(self, original: Any, batch: Any, dataloader_idx: int) -> Any:
        return original(self._split_batch(batch), dataloader_idx)

    def _training_step(
        self, trainer: Any, pl_module: Any, injector: LossInjector, original: Any, batch: Any,
        *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        assert self.session is not None
        batch = self._split_batch(batch)  # again: a datamodule's own transfer hook comes first
        step = functools.partial(original, batch, *args, **kwargs)
        sp_loss = functools.partial(self._sp_loss, trainer, pl_module, self.session, batch)
        with self.session.capture():
            return injector.training_step(pl_module, step, sp_loss)

    def _split_batch(self, batch: Any) -> Any:
        """The method's own batch; SP's part is stored for the step."""
        batch, sp_batch = split_batch(batch)
        self._sp_batch = sp_batch or self._sp_batch
        return batch

    def _sp_loss(self, trainer: Any, pl_module: Any, session: SPSession, batch: Any) -> Tensor:
        session.backbone = pl_module.get_submodule(self._backbone_name)
        out = session(
            batch, self._sp_batch, progress=training_progress(trainer), rank=trainer.global_rank
        )
        metrics = out.loggable_metrics("train_sp_")
        batch_size = len(first_view(batch))
        pl_module.log_dict(metrics, on_step=False, on_epoch=True, batch_size=batch_size)
        return out.loss


def _builds_in_configure_model(pl_module: nn.Module) -> bool:
    """Whether the module makes its parts in ``configure_model``, which Lightning calls later."""
    method = getattr(type(pl_module), "configure_model", None)
    package = method.__module__.split(".")[0] if method else "lightning"
    return package not in ("lightning", "pytorch_lightning")


def _rank_zero_info(pl_module: Any) -> Any:
    """The function by which the module's own Lightning package prints a line."""
    for cls in type(pl_module).__mro__:
        if cls.__name__ == "LightningModule":
            package = cls.__module__.split(".core")[0]
            return importlib.import_module(f"{package}.utilities.rank_zero").rank_zero_info
    return log.info
