"""SPCallback: one line in the Trainer adds SP to a LightningModule, which stays unedited."""

from __future__ import annotations

import importlib
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from sp_lightning.attachment import Attachment
from sp_lightning.callback_base import loaded_packages, with_packages
from sp_lightning.probe_callback import log_probe
from sp_lightning.settings_signature import explicit_settings, with_signature_of
from sp_lightning.student import AUTO, find_backbone
from sp_plugin import SpatialPrediction, SPConfig, SPSession
from sp_plugin.features.backbone_call import FeatureFn, feature_fn_for_source
from sp_plugin.validation import boolean, choice

log = logging.getLogger("sp_plugin")


class SPCallbackMixin:
    """Adds the Spatial Prediction loss to the module that is being fitted.

    While ``fit`` runs, the module has a submodule ``sp``, and some of its methods are patched on
    the instance (`sp_lightning.attachment`); afterwards it is as before. The module's state
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
        probe: whether a `SpatialProbe` measures the run too, see `SpatialProbeCallback`.
        **settings: settings by name, over those of ``config``.

    Raises:
        ConfigError: a bad setting, no such backbone or several, or one that no optimizer trains.

    Attributes:
        backbone_name: name of the student in the module, once it is found; None before.
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
        probe: bool = False,
        **settings: Any,
    ) -> None:
        self.config = SPConfig.from_dict(config, **settings)
        feature_fn_for_source(self.config.source, feature_fn)  # raises where it is of no use
        self.backbone = backbone
        self.feature_fn = feature_fn
        self.on_nonfinite = choice("skip", "record")("on_nonfinite", on_nonfinite)
        self.record_folder = record_folder
        self.probe = boolean("probe", probe)
        self.backbone_name: str | None = None
        self.session: SPSession | None = None
        self._owner: weakref.ref[Any] | None = None  # the module that the session belongs to
        self._resumed_state: dict[str, Any] | None = None  # from a checkpoint
        self._attachment: Attachment | None = None  # during fit

    @with_signature_of(__init__)
    def __new__(cls, *args: Any, **settings: Any) -> Any:
        # A Trainer expects the Callback of its own package, which may be loaded by now only.
        owner: Any = cls
        return object.__new__(with_packages(owner, SPCallbackMixin, loaded_packages()))

    def __getstate__(self) -> dict[str, Any]:
        # Not all of __dict__: the Trainer sets the module's own log functions on a callback.
        names = (
            "backbone", "config", "feature_fn", "on_nonfinite", "record_folder", "probe",
            "session", "sp_class", "announce",
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
            self._attachment = Attachment(
                trainer, pl_module, self.backbone, self.config, self._session_for
            )
            self._attachment.install()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._attachment:
            self._attachment.check_data()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.session and self.session.probe:
            log_probe(pl_module, self.session.probe)

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
        if self._attachment and not checkpoint.get("callbacks", {}).get(self.state_key):
            log.warning("SP: the checkpoint is of a run without SP; SP's head starts anew")
            self._attachment.resume_from_plain(checkpoint)

    # What outlives a fit

    def _session_for(self, pl_module: Any, backbone_name: str) -> SPSession:
        """The session of this module and student; of another one it keeps the head that fits."""
        backbone = find_backbone(pl_module, backbone_name)
        self.backbone_name = backbone_name
        before = self.session
        if before is not None and (self._owner is None or self._owner() is not pl_module):
            before = None
        if before is not None and before.backbone is backbone:
            return before
        feature_fn = feature_fn_for_source(self.config.source, self.feature_fn)
        sp = self.sp_class.from_backbone(backbone, None, self.config, feature_fn)
        if before is not None:
            before.remove()
            if before.sp.feature_dim == sp.feature_dim:
                before.sp.channels, before.sp.layout = sp.channels, sp.layout
                sp = before.sp
        self.session = SPSession(
            backbone,
            sp=sp,
            sample_view_boxes=self._sampled_view_boxes,
            announce=self.announce or _rank_zero_info(pl_module),
            on_nonfinite=self.on_nonfinite,
            record_folder=self.record_folder,
            probe=self.probe,
            # A part of the module, which the Trainer wraps in DDP or FSDP, but not in this one.
            sync_head=type(pl_module.trainer.strategy).__name__ == "ModelParallelStrategy",
        )
        self.session.step = before.step if before else 0
        self._owner = weakref.ref(pl_module)
        self._resume()
        return self.session

    def _sampled_view_boxes(self) -> Tensor | None:
        return self._attachment.sampled_view_boxes if self._attachment else None

    def _resume(self) -> None:
        # Lightning also loads it to validate, which is to change nothing of a fit.
        if self._attachment and self.session and self._resumed_state:
            self.session.load_state_dict(self._resumed_state)

    def _detach(self) -> None:
        """Leave the module and the data as they were, if SP is in them."""
        self._resumed_state = None  # also that of a checkpoint which was validated
        if self._attachment:
            self._attachment.remove()
            self._attachment = None


def _rank_zero_info(pl_module: Any) -> Any:
    """The function by which the module's own Lightning package prints a line."""
    for cls in type(pl_module).__mro__:
        if cls.__name__ == "LightningModule":
            package = cls.__module__.split(".core")[0]
            return importlib.import_module(f"{package}.utilities.rank_zero").rank_zero_info
    return log.info
