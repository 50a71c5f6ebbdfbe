"""SPAlgorithm: builds the host's own algorithm and adds SP to it."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn

from sp_mmselfsup.batch import crops_from_samples, first_view
from sp_mmselfsup.host_views import HostViews
from sp_mmselfsup.patches import apply_patches
from sp_mmselfsup.progress import current_progress
from sp_mmselfsup.unmasked_forward import unmasked_feature_fn
from sp_plugin import ConfigError, Crops, SpatialPrediction, SPConfig
from sp_plugin.validation import did_you_mean
from sp_plugin.views.capture import EncodedViews

_NAME = "sp"
_SETTINGS = ("algorithm", "sp")


def SPAlgorithm(
    algorithm: dict[str, Any],
    sp: dict[str, Any] | None = None,
    data_preprocessor: dict[str, Any] | None = None,
    **unknown: Any,
) -> nn.Module:
    """Build the host's algorithm and add SP to it; for ``model`` in a config of either host.

    The algorithm is built as without SP, then becomes an instance of a subclass of its own class
    with one part more, ``sp``. So all keys of its state dict stay, ``sp.*`` comes after them, and
    momentum targets, which the algorithm copied while it was built, hold nothing of SP. Its
    losses gain ``sp_loss``, SP's share of the sum. What is logged beside it: ``sp_unweighted``, that
    loss before its weight, 0.44 at chance; ``sp_weight``; ``sp_skipped_fraction``; and
    ``sp_r2_dx``, ``sp_r2_dy``, ``sp_r2_scale``.

    Args:
        algorithm: config of the baseline's model, such as ``{{_base_.model}}``.
        sp: settings of SP by their names in `SPConfig`.
        data_preprocessor: the config's own beside ``model``, which the Runner hands to every
            model that it builds; it goes to the algorithm, if that has none.

    Raises:
        ConfigError: a setting that is unknown or bad, an algorithm without a ``backbone``, or
            with a part called ``sp`` already; in one line.

    >>> SPAlgorithm(algorithm=dict(type="BYOL"), sp=dict(wieght=0.3))
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: wieght: no such setting of SP; did you mean 'weight'?
    """
    for key in unknown:
        raise ConfigError(f"{key}: SPAlgorithm has no such setting; {did_you_mean(key, _SETTINGS)}")
    config = SPConfig.from_dict(sp)
    if data_preprocessor is not None:
        algorithm = {"data_preprocessor": data_preprocessor, **algorithm}
    host: nn.Module = MODELS.build(algorithm)
    apply_patches(host)
    return attach(host, config)


# In MMEngine's own registry, which those of both hosts ask for what they do not have themselves.
MODELS.register_module(module=SPAlgorithm)


def attach(host: nn.Module, config: SPConfig) -> nn.Module:
    """Add SP to an algorithm that has been built; it changes in place and is returned.

    Raises:
        ConfigError: it has no ``backbone``, or a part called ``sp`` already; or it masks its views
            where SP is to take them from it.
    """
    name = type(host).__name__
    backbone = getattr(host, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ConfigError(f"algorithm: {name} has no 'backbone', which is what SP trains")
    if hasattr(host, _NAME):
        raise ConfigError(
            f"algorithm: {name} has a part {_NAME!r} already; one SPAlgorithm will do"
        )
    encode = unmasked_feature_fn(backbone)
    if encode is not None and config.source == "host":
        raise ConfigError(
            f"source: got 'host_views', but {name} masks what its backbone sees; take 'view' or 'image'"
        )
    host.add_module(
        _NAME, SpatialPrediction.from_backbone(backbone, None, config, feature_fn=encode)
    )
    cls: Any = type(host)
    host.__class__ = _with_sp(cls)
    return host


@functools.cache
def _with_sp(cls: type[Any]) -> type[Any]:
    """The subclass of a host's algorithm that asks SP too; one for each algorithm."""
    return type(f"SP{cls.__name__}", (SPMixin, cls), {"__module__": __name__})


class SPMixin:
    """What an algorithm does otherwise once it has SP."""

    sp: SpatialPrediction
    backbone: nn.Module
    data_preprocessor: nn.Module
    _suited = False  # the first views tell how large they are
    _host: HostViews | None = None  # from the first step on: copies made before have no part in it

    def loss(self, inputs: Any, data_samples: Any = None, **kwargs: Any) -> dict[str, Any]:
        with self._watching():
            losses: dict[str, Any] = super().loss(  # type: ignore[misc]
                inputs, data_samples, **kwargs
            )
            return {**losses, **self._ask(inputs, data_samples)}

    def init_weights(self) -> None:
        # The Runner initialises every part by the host's rules, on the global generators. SP's
        # head has its own weights, and what is drawn for the host must not depend on it.
        parts = self._modules  # type: ignore[attr-defined]
        sp = parts.pop(_NAME)
        try:
            super().init_weights()  # type: ignore[misc]
        finally:
            parts[_NAME] = sp

    def _watching(self) -> contextlib.AbstractContextManager[None]:
        if self.sp.config.source != "host":
            return contextlib.nullcontext()
        self._host = self._host or HostViews(self.backbone, self.sp.config)
        return self._host.step()

    def _suit(self, view: Tensor) -> None:
        config = self.sp.configure_for(self.backbone, min(view.shape[-2:])).config
        self._suited = True
        told = f"{config.describe_weight()}, {config.crop_size} px crops of the {config.source}"
        print_log(f"SP is on: {told}", logger="current")

    def _asked_about(self, inputs: Any, data_samples: Any) -> Tensor | Crops | EncodedViews:
        if self._host is not None:
            return self._host.asked_about(inputs, data_samples, self.sp)
        view = first_view(inputs)
        if not self._suited:
            self._suit(view)
        if self.sp.config.source == "image":
            return crops_from_samples(data_samples, self.data_preprocessor)
        return view

    def _ask(self, inputs: Any, data_samples: Any) -> dict[str, Tensor]:
        asked = self._asked_about(inputs, data_samples)
        step, progress = current_progress(self)
        out = self.sp(self.backbone, asked, step=step, rank=get_rank(), progress=progress)
        # MMEngine sums whatever has "loss" in its name (BaseModel.parse_losses).
        figures = out.loggable_metrics()
        told = {"sp_loss": out.loss, "sp_unweighted": figures.pop("loss")}
        return told | {f"sp_{name}": figure for name, figure in figures.items()}
