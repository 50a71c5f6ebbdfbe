"""SPCallback: one line in the Trainer adds SP to a LightningModule, which stays unedited."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor

from sp_lightning.bases import callback_classes, with_bases
from sp_lightning.batch import first_view
from sp_lightning.checkpoint import keep_out, make_room
from sp_lightning.images import CropsFromImages, unwrap
from sp_lightning.progress import progress_of
from sp_lightning.student import find_backbone, join
from sp_plugin import ConfigError, Pairs, SpatialPrediction, SPConfig, SPOutput

log = logging.getLogger("sp_plugin")

_NAME = "sp"  # the attribute of the LightningModule under which SP stands while it trains
_WRAPPED = (
    "training_step", "configure_optimizers", "manual_backward", "on_after_batch_transfer",
)  # fmt: skip
_LOGGED = ("loss", "r2_dx", "r2_dy", "r2_scale", "weight", "skipped")
_OF_ONE = ("loss", "weight", "skipped")  # one picture has no R2: a NaN would spoil the epoch's mean


class SPCallback:
    """Adds the Spatial Prediction loss to the module that is being fitted.

    While ``fit`` runs, the module has a submodule ``sp``, and its ``training_step``,
    ``configure_optimizers`` and ``manual_backward`` are wrapped on the instance; afterwards it is
    as it was. The module's state dict stays a plain run's throughout. SP's figures go through the
    module's own logger: ``train_sp_loss``, ``train_sp_r2_dx``, ``train_sp_r2_dy``,
    ``train_sp_r2_scale``, ``train_sp_weight``.

    Args:
        backbone: name of the student in the module, such as ``backbone`` or
            ``student_backbone``; dots for a part of a part.
        config: settings as an `SPConfig` or a mapping.
        **settings: settings by name, over those of ``config``.

    Raises:
        ConfigError: a bad setting, no such backbone, or one that no optimizer trains.

    >>> callback = SPCallback(backbone="backbone", weight=0.3)
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> SPCallback:
        bases = tuple(base for base in callback_classes() if not issubclass(cls, base))
        body: Any = cls
        return object.__new__(with_bases(body, bases) if bases else body)

    def __init__(
        self,
        backbone: str = "backbone",
        config: SPConfig | dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        given = config.asdict() if isinstance(config, SPConfig) else config
        self.config = SPConfig.build(given, **settings)
        self.backbone = backbone
        self.sp: SpatialPrediction | None = None
        self.step = 0
        self._owner: weakref.ref[Any] | None = None
        self._undo: list[Any] = []
        self._checkpoint: dict[str, Any] | None = None
        self._ask: Callable[[], Tensor] | None = None
        self._pairs: Pairs | None = None
        self._suited = False

    def __reduce__(self) -> Any:
        # Not all of __dict__: the Trainer hangs the module's own log functions on a callback.
        kept = {"sp": self.sp, "step": self.step}
        return SPCallback, (self.backbone, self.config.asdict()), kept

    # What Lightning calls

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        self._detach(pl_module)
        self._refuse(pl_module)
        backbone = find_backbone(pl_module, self.backbone)
        if self.sp is None or self._owner is None or self._owner() is not pl_module:
            self.sp = SpatialPrediction.from_backbone(backbone, None, self.config)
            self._owner, self.step, self._suited = weakref.ref(pl_module), 0, False
        setattr(pl_module, _NAME, self.sp)
        self._undo = [*keep_out(pl_module, _NAME)]
        pl_module.training_step = self._around_step(trainer, pl_module)
        pl_module.configure_optimizers = self._around_optimizers(pl_module)
        pl_module.manual_backward = self._around_backward(pl_module)
        pl_module.on_after_batch_transfer = self._around_transfer(pl_module)
        if self.config.source == "image":
            self._undo.append(CropsFromImages(trainer, self.config))

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
            self._checkpoint = checkpoint

    # What is wrapped on the instance

    def _around_step(self, trainer: Any, pl_module: Any) -> Any:
        original = pl_module.training_step

        @functools.wraps(original)
        def training_step(batch: Any, *args: Any, **kwargs: Any) -> Any:
            batch = self._unwrapped(batch)  # again: a datamodule's own transfer hook comes first
            ask = functools.partial(self._loss, trainer, pl_module, batch)
            if pl_module.automatic_optimization:
                return _add(original(batch, *args, **kwargs), ask)
            self._ask = ask
            return self._check_asked(original(batch, *args, **kwargs))

        return training_step

    def _around_backward(self, pl_module: Any) -> Any:
        original = pl_module.manual_backward

        @functools.wraps(original)
        def manual_backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            ask, self._ask = self._ask, None
            # The first backward of a step carries SP; a step of several has asked already.
            original(loss if ask is None else loss + ask(), *args, **kwargs)

        return manual_backward

    def _around_transfer(self, pl_module: Any) -> Any:
        original = pl_module.on_after_batch_transfer

        @functools.wraps(original)
        def on_after_batch_transfer(batch: Any, dataloader_idx: int) -> Any:
            self._pairs = None
            return original(self._unwrapped(batch), dataloader_idx)

        return on_after_batch_transfer

    def _around_optimizers(self, pl_module: Any) -> Any:
        original = pl_module.configure_optimizers

        @functools.wraps(original)
        def configure_optimizers() -> Any:
            configured = original()
            assert self.sp is not None
            where = join(pl_module, self.backbone, self.sp.head, configured)
            if self._checkpoint is not None:
                count = len(list(self.sp.head.parameters()))
                make_room(self._checkpoint["optimizer_states"], where, count)
                self._checkpoint = None
            return configured

        return configure_optimizers

    # What happens in a step

    def _loss(self, trainer: Any, pl_module: Any, batch: Any) -> Tensor:
        assert self.sp is not None
        view = first_view(batch)
        backbone = pl_module.get_submodule(self.backbone)
        if not self._suited:
            self.sp.suit(backbone, min(view.shape[-2:]))
            self._suited = True
        out: SPOutput = self.sp(
            backbone,
            self._asked_about(view),
            step=self.step,
            rank=trainer.global_rank,
            progress=progress_of(trainer),
        )
        self.step += 1
        named = _LOGGED if len(view) > 1 else _OF_ONE
        figures = {f"train_sp_{name}": out.metrics[name] for name in named}
        pl_module.log_dict(figures, on_step=False, on_epoch=True, batch_size=len(view))
        return out.loss

    def _unwrapped(self, batch: Any) -> Any:
        """The host's own batch; crops that came with it are kept for the step."""
        batch, pairs = unwrap(batch)
        self._pairs = pairs or self._pairs
        return batch

    def _asked_about(self, view: Tensor) -> Tensor | Pairs:
        pairs, self._pairs = self._pairs, None
        if self.config.source == "view":
            if pairs is not None:
                raise ConfigError(
                    "source: got 'view', but the data set's SPTransform brings crops of the image; "
                    "say SPCallback(source='image')"
                )
            return view
        if pairs is None:
            raise ConfigError(
                "source: got 'image', but the batch brings no crops: wrap the data set's "
                "transform in sp_plugin.transforms.SPTransform, or take source='view'"
            )
        return pairs

    def _check_asked(self, output: Any) -> Any:
        if self._ask is None:
            return output
        raise ConfigError(
            "manual optimization: training_step did not call self.manual_backward(loss), "
            "which is where SP adds its loss; call it instead of loss.backward()"
        )

    def _detach(self, pl_module: Any) -> None:
        """Leave the module as it was, if SP is in it."""
        if self.sp is None or pl_module._modules.get(_NAME) is not self.sp:
            return
        for name in _WRAPPED:
            pl_module.__dict__.pop(name, None)
        for handle in self._undo:
            handle.remove()
        delattr(pl_module, _NAME)

    def _refuse(self, pl_module: Any) -> None:
        if hasattr(pl_module, _NAME):
            raise ConfigError(
                f"{type(pl_module).__name__} has an attribute {_NAME!r} already: is there a "
                "second SPCallback? One is enough, and the name is needed"
            )


def _add(output: Any, ask: Any) -> Any:
    """The step's output with SP's loss in it; a step that was skipped stays skipped."""
    if output is None:
        return None
    if isinstance(output, dict):
        return {**output, "loss": output["loss"] + ask()}
    return output + ask()
