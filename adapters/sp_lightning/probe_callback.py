"""SpatialProbeCallback: how much of *where* a LightningModule learns, logged once per epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sp_lightning.callback_base import loaded_packages, with_packages
from sp_lightning.progress import training_progress
from sp_lightning.settings_signature import with_signature_of
from sp_lightning.student import AUTO, find_backbone, find_student_name
from sp_plugin import SpatialProbe, SPConfig
from sp_plugin.features.backbone_call import FeatureFn


class SpatialProbeCallbackMixin:
    """Measures a training run by a `SpatialProbe`, with or without SP, and changes nothing of it.

    It logs through the module's own logger, once per epoch: ``train_spatial_probe_r2_dx``,
    ``..._dy``, ``..._scale``, ``train_spatial_probe_rankme`` and ``..._feature_std``; what they
    are: `SpatialProbe.metrics`. The module gets no submodule and no parameter, and none of its
    methods is patched. Of several processes each has a probe, and the first one's is logged.

    Args:
        backbone: name of the student in the module, as for `SPCallback`; ``auto`` finds it.
        config: settings of crops and features, as for `SpatialProbe`.
        feature_fn: ``feature_fn(backbone, crops)`` for a backbone whose features are not what
            calling it gives.
        fraction: share of the batch's images that it uses, in (0, 1].
        every: it acts in each so many-th step.

    Raises:
        ConfigError: a bad setting; or, at the start of training, no such backbone or several.

    Attributes:
        probe: the `SpatialProbe`; None before the first fit.

    >>> from sp_lightning import SpatialProbeCallback
    >>> callback = SpatialProbeCallback(every=8)
    """

    def __init__(
        self,
        backbone: str = AUTO,
        config: SPConfig | Mapping[str, Any] | None = None,
        feature_fn: FeatureFn | None = None,
        fraction: float = 1 / 8,
        every: int = 4,
    ) -> None:
        self.backbone = backbone
        self.config = SPConfig.from_dict(config)
        self.feature_fn = feature_fn
        self.fraction, self.every = fraction, every
        self.probe: SpatialProbe | None = None
        self._backbone_name = ""
        self._resumed_state: dict[str, Any] | None = None  # from a checkpoint

    @with_signature_of(__init__)
    def __new__(cls, *args: Any, **settings: Any) -> Any:
        # A Trainer expects the Callback of its own package, which may be loaded by now only.
        owner: Any = cls
        return object.__new__(with_packages(owner, SpatialProbeCallbackMixin, loaded_packages()))

    def __getstate__(self) -> dict[str, Any]:
        # Not all of __dict__: the Trainer sets the module's own log functions on a callback.
        names = ("backbone", "config", "feature_fn", "fraction", "every", "probe", "_backbone_name")
        return {**{name: getattr(self, name) for name in names}, "_resumed_state": None}

    # Hooks that Lightning calls

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self._resumed_state = None  # of a checkpoint that was validated

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        is_auto = self.backbone == AUTO
        name = find_student_name(pl_module, may_be_frozen=True) if is_auto else self.backbone
        backbone, self._backbone_name = find_backbone(pl_module, name), name
        settings: dict[str, Any] = {"fraction": self.fraction, "every": self.every}
        self.probe = SpatialProbe(backbone, self.config, feature_fn=self.feature_fn, **settings)
        if self._resumed_state:
            self.probe.load_state_dict(self._resumed_state)
            self._resumed_state = None

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self.probe is not None
        # As the strategy may have wrapped it since.
        self.probe.backbone = pl_module.get_submodule(self._backbone_name)
        progress = training_progress(trainer)
        with trainer.precision_plugin.train_step_context():
            self.probe(batch, progress=1.0 if progress is None else progress)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        assert self.probe is not None
        log_probe(pl_module, self.probe)

    @property
    def state_key(self) -> str:
        return "SpatialProbeCallback"

    def state_dict(self) -> dict[str, Any]:
        return self.probe.state_dict() if self.probe else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed_state = state_dict  # the student may not be built yet


def log_probe(pl_module: Any, probe: SpatialProbe) -> None:
    """Log a probe's metrics through a module, in the hook at the end of an epoch."""
    pl_module.log_dict({f"train_{name}": value for name, value in probe.metrics().items()})
