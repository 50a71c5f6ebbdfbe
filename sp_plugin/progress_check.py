"""ProgressCheck: a progress of training that cannot be right is refused, or said once."""

from __future__ import annotations

import logging
import math
from numbers import Real
from typing import Any

from sp_plugin.spatial_prediction import SpatialPrediction
from sp_plugin.validation import ConfigError, invalid_value

__all__ = ["ProgressCheck"]

log = logging.getLogger("sp_plugin")

STILL_STEPS = 200  # steps without a change after which it is said
RESUMED = 0.05  # progress from which on a first step is of a resumed run

_EXPECTED = "the fraction of training that is done, a number in [0, 1]"


class ProgressCheck:
    """Reads the progress that a loop passes, and says where SP's weight suffers from it.

    Args:
        sp: module whose weight follows the progress.

    >>> check = ProgressCheck(SpatialPrediction(8))
    >>> check(0.25, step=0), check(None, step=1)
    (0.25, 1.0)
    """

    def __init__(self, sp: SpatialPrediction) -> None:
        self._sp = sp
        self._first: float | None = None
        self._num_same = 0
        self._is_out_of_range = False

    def __call__(self, progress: float | None, step: int) -> float:
        """The progress in [0, 1].

        Args:
            progress: as the loop passes it; None: the weight is constant, which is a progress of 1.
            step: number of the step.

        Raises:
            ConfigError: no number; or none at all, where the weight is to fall at the end.
        """
        config = self._sp.config
        if progress is None:
            if config.cooldown_fraction and config.weight:
                raise ConfigError(
                    f"progress: missing, and cooldown_fraction is {config.cooldown_fraction:g}; "
                    f"takes {_EXPECTED}"
                )
            return 1.0
        value = self._in_range(progress)
        self._note(value, step)
        return value

    def _in_range(self, progress: Any) -> float:
        is_number = isinstance(progress, Real) and not isinstance(progress, bool)
        if not is_number or math.isnan(value := float(progress)):
            raise invalid_value("progress", progress, _EXPECTED)
        if not -1e-6 <= value <= 1 + 1e-6 and not self._is_out_of_range:
            self._is_out_of_range = True
            log.warning("SP: progress is %.3g, and counts as 0 or 1; it is %s", value, _EXPECTED)
        return min(1.0, max(0.0, value))

    def _note(self, value: float, step: int) -> None:
        if self._num_same > STILL_STEPS:
            return
        weight, full = self._sp.weight(value), self._sp.config.weight
        if self._first is None:
            self._first = value
            if step == 0 and value > RESUMED and full and not self._sp.is_loaded:
                log.warning(
                    "SP: the first step is at progress %.2f, and no state of SP was loaded: a "
                    "resumed run loads sp.load_state_dict(...) too, or SP's head starts anew",
                    value,
                )
        if value != self._first or weight == full:  # it moves, or need not move
            self._num_same = STILL_STEPS + 1
            return
        self._num_same += 1
        if self._num_same > STILL_STEPS:
            log.warning(
                "SP: progress is %.3g since %d steps, and SP's weight %.3g rather than %g; pass %s",
                value, STILL_STEPS, weight, full, _EXPECTED,
            )  # fmt: skip
