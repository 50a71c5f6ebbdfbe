"""How far training has come, by what MMEngine's Runner tells in its message hub."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmengine.logging import MessageHub


class TrainingProgress(NamedTuple):
    """The step that is being made, counted from 0, and how far training has come, in [0, 1]."""

    step: int
    progress: float


def current_progress(model: Any) -> TrainingProgress:
    """Where the Runner is; a resumed one tells the step at which it goes on.

    The Runner's ``RuntimeInfoHook``, which it always has, keeps ``iter`` and ``max_iters`` up to
    date. Where there is no Runner, the calls for ``model`` are counted, and training has no end.

    >>> class Model: ...
    >>> model = Model()
    >>> hub = MessageHub.get_instance("clock")
    >>> now(model), now(model)
    (TrainingProgress(step=0, progress=1.0), TrainingProgress(step=1, progress=1.0))
    >>> hub.update_info_dict({"iter": 25, "max_iters": 100})
    >>> now(model)
    TrainingProgress(step=25, progress=0.25)
    """
    hub = MessageHub.get_current_instance()
    step, last = hub.get_info("iter"), hub.get_info("max_iters")
    if step is None:
        step = model._sp_calls = getattr(model, "_sp_calls", -1) + 1
    return TrainingProgress(int(step), min(1.0, step / last) if last else 1.0)
