"""SpatialProbeHook: how much of *where* an algorithm of MMSelfSup or MMPretrain learns."""

from __future__ import annotations

import contextlib
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from torch import nn

from sp_mmselfsup.progress import current_progress
from sp_mmselfsup.unmasked_forward import unmasked_feature_fn
from sp_plugin import ConfigError, SpatialProbe, SPConfig

__all__ = ["SpatialProbeHook"]

_KEY = "spatial_probe"  # in checkpoints


@HOOKS.register_module()
class SpatialProbeHook(Hook):
    """Measures a run by a `SpatialProbe`, with or without SP, and changes nothing of it.

    For ``custom_hooks`` in a config. The Runner's logger gets ``spatial_probe_r2_dx``, ``..._dy``,
    ``..._scale``, ``spatial_probe_rankme`` and ``..._feature_std``; what they are:
    `SpatialProbe.metrics`. Checkpoints contain its state, next to the model's.

    Args:
        sp: settings of crops and features by their names in `SPConfig`, as for `SpatialProbe`.
        fraction: share of the batch's images that it uses, in (0, 1].
        every: it acts in each so many-th step.
        interval: steps from one log to the next; also at the end of each epoch.

    Raises:
        ConfigError: a bad setting; or, at the start of training, an algorithm without a backbone.

    Attributes:
        probe: the `SpatialProbe`; None before training.
    """

    def __init__(
        self,
        sp: dict[str, Any] | None = None,
        fraction: float = 1 / 8,
        every: int = 4,
        interval: int = 50,
    ) -> None:
        self.config = SPConfig.from_dict(sp)
        self.fraction, self.every, self.interval = fraction, every, interval
        self.probe: SpatialProbe | None = None
        self._resumed_state: dict[str, Any] | None = None  # from a checkpoint
        self._inputs: Any = None  # the algorithm's, in this step
        self._handle: Any = None

    def before_train(self, runner: Any) -> None:
        algorithm = _algorithm(runner)
        backbone = getattr(algorithm, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise ConfigError(
                f"algorithm: {type(algorithm).__name__} has no 'backbone', which the spatial probe "
                "measures"
            )
        feature_fn = unmasked_feature_fn(backbone)
        settings: dict[str, Any] = {"fraction": self.fraction, "every": self.every}
        self.probe = SpatialProbe(backbone, self.config, feature_fn=feature_fn, **settings)
        if self._resumed_state:
            self.probe.load_state_dict(self._resumed_state)
        # What the algorithm gets is normalised; a Hook gets what the data loader returns.
        self._handle = algorithm.register_forward_pre_hook(self._record_inputs, with_kwargs=True)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        assert self.probe is not None
        self.probe.backbone = _algorithm(runner).backbone
        optimizer = runner.optim_wrapper
        is_single = isinstance(optimizer, OptimWrapper)
        with optimizer.optim_context(runner.model) if is_single else contextlib.nullcontext():
            self.probe(self._inputs, progress=current_progress().progress)
        self._inputs = None
        is_end = self.end_of_epoch(runner.train_dataloader, batch_idx)
        if is_end or self.every_n_train_iters(runner, self.interval):
            for name, value in self.probe.metrics().items():
                runner.message_hub.update_scalar(f"train/{name}", value.item())

    def after_train(self, runner: Any) -> None:
        self._handle.remove()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if self.probe is not None:
            checkpoint[_KEY] = self.probe.state_dict()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if runner._resume:  # otherwise the weights alone are wanted
            self._resumed_state = checkpoint.get(_KEY)

    def _record_inputs(self, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("mode") == "loss":
            self._inputs = args[0] if args else kwargs["inputs"]


def _algorithm(runner: Any) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
