"""SPCallback: one line in the Trainer adds SP to a LightningModule, which stays unedited."""

from __future__ import annotations

import contextlib
import functools
import logging
import weakref
from typing import Any, cast

from torch import Tensor, nn

from sp_lightning.batch_utils import first_view
from sp_lightning.callback_base import callback_classes, with_bases
from sp_lightning.checkpoint import exclude_from_state_dict, extend_optimizer_state
from sp_lightning.data import (
    SPBatch,
    TransformPatcher,
    on_device,
    split_batch,
    validate_source,
    wrap_with_crops,
)
from sp_lightning.host_views import HostViews
from sp_lightning.method_patching import LossInjector, PatchedMethods
from sp_lightning.progress import progress_of
from sp_lightning.student import AUTO, add_to_param_group, find_backbone, find_student_name
from sp_plugin import ConfigError, SpatialPrediction, SPConfig, SPOutput
from sp_plugin.features.extraction import FeatureFn
from sp_plugin.validation import invalid_value
from sp_plugin.views.transform import ViewBoxes

log = logging.getLogger("sp_plugin")

_NAME = "sp"  # the attribute of the LightningModule under which SP stands while it trains


class SPCallback:
    """Adds the Spatial Prediction loss to the module that is being fitted.

    While ``fit`` runs, the module has a submodule ``sp``, and some of its methods are wrapped on
    the instance (`sp_lightning.method_patching`); afterwards it is as it was. The module's state dict
    stays a plain run's throughout. SP's figures go through the module's own logger:
    ``train_sp_loss``, ``train_sp_r2_dx``, ``train_sp_r2_dy``, ``train_sp_r2_scale``,
    ``train_sp_weight``, ``train_sp_skipped_fraction``.

    Args:
        backbone: name of the student in the module, such as ``backbone`` or
            ``student_backbone``, dots for a part of a part; ``auto`` finds it.
        config: settings as an `SPConfig` or a mapping.
        encode: ``encode(backbone, crops)`` for a backbone that calling is not the way to its
            features; its output is pooled as any other's.
        **settings: settings by name, over those of ``config``.

    Raises:
        ConfigError: a bad setting, no such backbone or several, or one that no optimizer trains.

    Attributes:
        module: what is made and put beside the backbone; one that asks something else of the same
            crops can take its place.

    >>> callback = SPCallback()
    """

    module: type[SpatialPrediction] = SpatialPrediction

    def __new__(cls, *args: Any, **kwargs: Any) -> SPCallback:
        bases = tuple(base for base in callback_classes() if not issubclass(cls, base))
        body: Any = cls
        return object.__new__(with_bases(body, bases) if bases else body)

    def __init__(
        self,
        backbone: str = AUTO,
        config: SPConfig | dict[str, Any] | None = None,
        encode: FeatureFn | None = None,
        **settings: Any,
    ) -> None:
        given = config.asdict() if isinstance(config, SPConfig) else config
        self.config = SPConfig.from_dict(given, **settings)
        if encode is not None and self.config.source == "host":
            raise invalid_value("encode", encode, "none where source is 'host': the host encodes")
        self.backbone = backbone
        self.encode = encode
        self.sp: SpatialPrediction | None = None
        self.step = 0
        self._owner: weakref.ref[Any] | None = None
        self._name = backbone  # of the student, once it is found
        self._undo: list[Any] = []
        self._plain: dict[str, Any] | None = None
        self._beside: SPBatch | None = None
        self._host: HostViews | None = None
        self._suited = False

    def __reduce__(self) -> Any:
        # Not all of __dict__: the Trainer hangs the module's own log functions on a callback.
        kept = {"sp": self.sp, "step": self.step, "module": self.module}
        return SPCallback, (self.backbone, self.config.asdict(), self.encode), kept

    # What Lightning calls

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        self._detach(pl_module)
        self._refuse(pl_module)
        wrapped, asking = PatchedMethods(pl_module), LossInjector()
        self._undo = [wrapped]
        wrapped("training_step", functools.partial(self._step, trainer, pl_module, asking))
        wrapped("manual_backward", asking.in_backward)
        wrapped("configure_optimizers", functools.partial(self._optimizers, pl_module))
        wrapped("on_before_batch_transfer", self._transferring)
        wrapped("on_after_batch_transfer", self._transferred)
        if self.config.source == "image":
            self._undo.append(TransformPatcher(trainer, wrap_with_crops(self.config)))
        if self.config.source == "host":
            self._host = HostViews(trainer, self.config)
            self._undo.append(self._host)
        try:
            self._attach(pl_module)
        except ConfigError:
            if not _builds_later(pl_module):
                raise
            wrapped("configure_model", functools.partial(self._built, pl_module))

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self._detach(pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._detach(pl_module)  # Lightning calls no teardown then

    @property
    def state_key(self) -> str:
        return "SPCallback"

    def state_dict(self) -> dict[str, Any]:
        if self.sp is None:
            return {}
        return {"step": self.step, "config": self.config.asdict(), "sp": self.sp.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.sp is None or not state_dict:
            return
        self.sp.load_state_dict(state_dict["sp"])
        self.step = state_dict["step"]

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self.sp is not None and not checkpoint.get("callbacks", {}).get(self.state_key):
            log.warning("SP: the checkpoint is of a run without SP; SP's head starts anew")
            self._plain = checkpoint

    # Into the module, and out of it

    def _attach(self, pl_module: Any) -> None:
        self._name = find_student_name(pl_module) if self.backbone == AUTO else self.backbone
        backbone = find_backbone(pl_module, self._name)
        if self.sp is None or self._owner is None or self._owner() is not pl_module:
            # A host's own calls are calls of the backbone, whatever else it may be asked for.
            encode = nn.Module.__call__ if self._host else self.encode
            self.sp = self.module.from_backbone(backbone, None, self.config, encode)
            self._owner, self.step, self._suited = weakref.ref(pl_module), 0, False
        if self._host:
            self._host.attach(backbone)
        setattr(pl_module, _NAME, self.sp)
        self._undo += exclude_from_state_dict(pl_module, _NAME)

    def _detach(self, pl_module: Any) -> None:
        """Leave the module as it was, if SP is in it."""
        for handle in self._undo:
            handle.remove()
        self._undo, self._host = [], None
        if self.sp is not None and pl_module._modules.get(_NAME) is self.sp:
            delattr(pl_module, _NAME)

    def _refuse(self, pl_module: Any) -> None:
        if hasattr(pl_module, _NAME):
            raise ConfigError(
                f"{type(pl_module).__name__} has an attribute {_NAME!r} already: is there a "
                "second SPCallback? One is enough, and the name is needed"
            )

    # Around the module's own methods

    def _built(self, pl_module: Any, original: Any) -> None:
        original()
        if not hasattr(pl_module, _NAME):
            self._attach(pl_module)

    def _optimizers(self, pl_module: Any, original: Any) -> Any:
        configured = original()
        assert self.sp is not None
        where = add_to_param_group(pl_module, self._name, self.sp.head, configured)
        if self._plain is not None:
            count = len(list(self.sp.head.parameters()))
            extend_optimizer_state(self._plain["optimizer_states"], where, count)
            self._plain = None
        return configured

    def _transferring(self, original: Any, batch: Any, dataloader_idx: int) -> Any:
        self._beside = None
        return original(self._own(batch), dataloader_idx)

    def _transferred(self, original: Any, batch: Any, dataloader_idx: int) -> Any:
        return original(self._own(batch), dataloader_idx)

    def _step(
        self, trainer: Any, pl_module: Any, asking: LossInjector, original: Any, batch: Any, *args: Any,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        batch = self._own(batch)  # again: a datamodule's own transfer hook comes first
        step = functools.partial(original, batch, *args, **kwargs)
        ask = functools.partial(self._loss, trainer, pl_module, batch)
        with self._host.step() if self._host else contextlib.nullcontext():
            return asking.in_step(pl_module, step, ask)

    def _own(self, batch: Any) -> Any:
        """The host's own batch; what came with it for SP is kept for the step."""
        batch, beside = split_batch(batch)
        self._beside = beside or self._beside
        return batch

    def _loss(self, trainer: Any, pl_module: Any, batch: Any) -> Tensor:
        assert self.sp is not None
        view = first_view(batch)
        backbone = pl_module.get_submodule(self._name)
        out: SPOutput = self.sp(
            backbone,
            self._asked_about(self.sp, backbone, view, batch),
            step=self.step,
            rank=trainer.global_rank,
            progress=progress_of(trainer),
        )
        self.step += 1
        figures = {f"train_sp_{name}": figure for name, figure in out.loggable_metrics().items()}
        pl_module.log_dict(figures, on_step=False, on_epoch=True, batch_size=len(view))
        return out.loss

    def _asked_about(self, sp: SpatialPrediction, backbone: Any, view: Tensor, batch: Any) -> Any:
        """What SP takes in this step: the view, or what came with the batch."""
        validate_source(self.config.source, self._beside)
        beside = on_device(self._beside, view.device)
        if self._host:
            return self._host.asked_about(batch, cast(ViewBoxes, beside), sp)
        if not self._suited:
            sp.configure_for(backbone, min(view.shape[-2:]))
            self._suited = True
        return view if beside is None else beside


def _builds_later(pl_module: nn.Module) -> bool:
    """Whether the module makes its parts in ``configure_model``, which Lightning calls later."""
    own = getattr(type(pl_module), "configure_model", None)
    package = own.__module__.split(".")[0] if own else "lightning"
    return package not in ("lightning", "pytorch_lightning")
