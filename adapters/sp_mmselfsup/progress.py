"""Progress of training, from the message hub of MMEngine's Runner."""

from __future__ import annotations

from typing import NamedTuple

from mmengine.logging import MessageHub

__all__ = ["TrainingProgress", "current_progress"]


class TrainingProgress(NamedTuple):
    """Progress of a training run.

    Attributes:
        step: number of the current step, from 0; None: there is no Runner.
        progress: share of training that is done, in [0, 1].
    """

    step: int | None
    progress: float


def current_progress() -> TrainingProgress:
    """Progress of the current Runner; of a resumed one, from the step at which it resumes.

    The Runner's ``RuntimeInfoHook``, which it always has, keeps ``iter`` and ``max_iters`` up to
    date. Without a Runner the weight is constant (progress 1).

    >>> hub = MessageHub.get_instance("progress")
    >>> current_progress()
    TrainingProgress(step=None, progress=1.0)
    >>> hub.update_info_dict({"iter": 25, "max_iters": 100})
    >>> current_progress()
    TrainingProgress(step=25, progress=0.25)
    """
    hub = MessageHub.get_current_instance()
    step, num_steps = hub.get_info("iter"), hub.get_info("max_iters")
    if step is None:
        return TrainingProgress(None, 1.0)
    return TrainingProgress(int(step), min(1.0, step / num_steps) if num_steps else 1.0)
