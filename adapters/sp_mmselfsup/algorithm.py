"""SPAlgorithm: builds an algorithm of MMSelfSup or MMPretrain and adds SP to it."""

from __future__ import annotations

import functools
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn

from sp_mmselfsup.batch import sp_batch_from_samples
from sp_mmselfsup.patch_list import apply_patches
from sp_mmselfsup.progress import current_progress
from sp_mmselfsup.unmasked_forward import unmasked_feature_fn
from sp_mmselfsup.view_boxes_transform import SPViewBoxes
from sp_plugin import ConfigError, SpatialPrediction, SPConfig, SPSession
from sp_plugin.validation import did_you_mean

__all__ = ["SPAlgorithm", "SPMixin", "attach"]

_NAME = "sp"


def SPAlgorithm(  # noqa: N802 - a name in configs, like those of classes
    algorithm: dict[str, Any],
    sp: dict[str, Any] | None = None,
    data_preprocessor: dict[str, Any] | None = None,
    **unknown: Any,
) -> nn.Module:
    """Build an algorithm and add SP to it; for ``model`` in a config of MMSelfSup or MMPretrain.

    The algorithm is built as without SP, then becomes an instance of a subclass of its own class
    with one more submodule, ``sp``. So all keys of its state dict stay, ``sp.*`` comes after them,
    and momentum targets, which the algorithm copied while it was built, contain nothing of SP. Its
    losses gain ``sp_loss``, SP's weighted loss. Also logged are ``sp_unweighted`` (the loss before
    its weight, 0.44 at chance), ``sp_weight``, ``sp_skipped_fraction``, ``sp_r2_dx``,
    ``sp_r2_dy`` and ``sp_r2_scale``.

    Args:
        algorithm: config of the baseline's model, such as ``{{_base_.model}}``.
        sp: settings of SP by their names in `SPConfig`.
        data_preprocessor: set by the Runner from the config's entry next to ``model``; it goes to
            the algorithm, if that has none.
        **unknown: any other setting, which is refused.

    Raises:
        ConfigError: an unknown or bad setting; settings of the inherited model, for lack of
            ``_delete_=True``; an algorithm without a ``backbone``, or with a
            submodule ``sp`` already.

    >>> SPAlgorithm(algorithm=dict(type="BYOL"), sp=dict(wieght=0.3))
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: wieght: no such setting of SP; did you mean 'weight'?
    """
    if inherited := sorted(unknown.keys() & algorithm.keys()):
        raise ConfigError(
            f"model: SPAlgorithm got {', '.join(inherited)} of the inherited model; "
            "write model = dict(_delete_=True, type='SPAlgorithm', ...)"
        )
    for key in unknown:
        hint = did_you_mean(key, ("algorithm", _NAME))
        raise ConfigError(f"{key}: SPAlgorithm has no such setting; {hint}")
    config = SPConfig.from_dict(sp)
    if data_preprocessor is not None:
        algorithm = {"data_preprocessor": data_preprocessor, **algorithm}
    built: nn.Module = MODELS.build(algorithm)
    apply_patches(built)
    return attach(built, config)


# In MMEngine's own registry, which those of both frameworks fall back to.
MODELS.register_module(module=SPAlgorithm)


def attach(algorithm: nn.Module, config: SPConfig) -> nn.Module:
    """Add SP to a built algorithm, which changes in place and is returned.

    Raises:
        ConfigError: it has no ``backbone``, or a submodule ``sp`` already; or it masks its views
            where SP is to use them.
    """
    cls: Any = type(algorithm)
    backbone = getattr(algorithm, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ConfigError(f"algorithm: {cls.__name__} has no 'backbone', which SP trains")
    if hasattr(algorithm, _NAME):
        raise ConfigError(
            f"algorithm: {cls.__name__} has a submodule {_NAME!r} already; use one SPAlgorithm"
        )
    feature_fn = unmasked_feature_fn(backbone)
    if feature_fn is not None and config.source == "host_views":
        raise ConfigError(
            f"source: got 'host_views', but {cls.__name__} masks what its backbone sees; "
            "take 'view' or 'image'"
        )
    sp = SpatialPrediction.from_backbone(backbone, None, config, feature_fn)
    algorithm.add_module(_NAME, sp)
    algorithm.__class__ = _sp_subclass(cls)
    return algorithm


@functools.cache
def _sp_subclass(cls: type[Any]) -> type[Any]:
    """The subclass of an algorithm's class that adds SP's loss; one for each class."""
    return type(f"SP{cls.__name__}", (SPMixin, cls), {"__module__": __name__})


class SPMixin:
    """Adds SP's loss to an algorithm, as a base class of a subclass made at run time.

    Why a subclass, and not a wrapper, a hook or a patched method: hooks of both frameworks look for
    the algorithm's attributes (``runner.model.backbone``, ``.neck``), so it must stay the model
    itself; a Hook runs after the optimizer was built, too late for the head's parameters; and a
    ``loss`` patched on the instance would call the original model's in a ``copy.deepcopy`` of it.
    The class is changed on one instance after construction, so that ``__init__``, with its momentum
    copies and random draws, runs exactly as without SP.
    """

    sp: SpatialPrediction
    backbone: nn.Module
    data_preprocessor: nn.Module
    training: bool
    # From the first step on: copies that were made before (EMA) do not share it.
    _session: SPSession | None = None

    def loss(self, inputs: Any, data_samples: Any = None, **kwargs: Any) -> dict[str, Any]:
        if not (self.training and torch.is_grad_enabled()):  # a hook that measures it in validation
            return super().loss(inputs, data_samples, **kwargs)  # type: ignore[misc]
        session = self._get_session()
        with session.capture():
            losses: dict[str, Any] = super().loss(  # type: ignore[misc]
                inputs, data_samples, **kwargs
            )
            return {**losses, **self._sp_losses(session, inputs, data_samples)}

    def init_weights(self) -> None:
        # The Runner initialises every submodule by the framework's rules, on the global generators.
        # SP's head has its own weights, and the algorithm's draws must not depend on it.
        modules = self._modules  # type: ignore[attr-defined]
        sp = modules.pop(_NAME)
        try:
            super().init_weights()  # type: ignore[misc]
        finally:
            modules[_NAME] = sp

    def _get_session(self) -> SPSession:
        if self._session is None or self._session.backbone is not self.backbone:
            self._session = SPSession(
                self.backbone,
                sp=self.sp,
                sample_view_boxes=_sample_view_boxes,
                announce=functools.partial(print_log, logger="current"),
                sync_head=False,  # a part of the module that the framework wraps
            )
        return self._session

    def _sp_losses(self, session: SPSession, inputs: Any, data_samples: Any) -> dict[str, Tensor]:
        sp_batch = sp_batch_from_samples(
            session.config.source, data_samples, self.data_preprocessor
        )
        step, progress = current_progress()
        out = session(inputs, sp_batch, step=step, progress=progress, rank=get_rank())
        metrics = out.loggable_metrics("sp_")
        # MMEngine sums every value with "loss" in its name (BaseModel.parse_losses).
        metrics["sp_unweighted"] = metrics.pop("sp_loss")
        return {"sp_loss": out.loss, **metrics}


def _sample_view_boxes() -> Tensor | None:
    transform = SPViewBoxes.of_current_run()
    return transform.sample_boxes() if transform else None
