"""Steps: hosts with SP and without, with peers, and with more and more crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sp_lightning import SPCallback

from sp_bench.pretrain import new_method
from sp_bench.speed.cases import (
    ALONE,
    PEER_ARMS,
    PLAIN,
    SP,
    Arm,
    Case,
    k_arms,
    k_case,
    peer_cases,
    sp_arms,
    step_cases,
)
from sp_bench.speed.cost_lower_bound import Floor, counted_floor
from sp_bench.speed.memory import peak_bytes
from sp_bench.speed.peer_callback import Beside
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.timing import Stopwatch, interleaved, repeated
from sp_bench.speed.trainer_benchmark import STEPS, Fitted

CROPS, PARTS, DRAWING = "crops alone", "SP's own parts", "drawing crops"
BESIDE = (CROPS, PARTS, DRAWING)
Jobs = dict[str, Callable[[], dict[str, Any]]]


def step_jobs(settings: SpeedSettings) -> Jobs:
    """The step ratio of each host, with its floors."""
    return {
        case.name: partial(measure, case, (ALONE, *sp_arms(case)), settings, floor=True)
        for case in step_cases(settings)
    }


def peer_jobs(settings: SpeedSettings) -> Jobs:
    """SP beside its peers on the same step."""
    return {
        case.name: partial(measure, case, (ALONE, *sp_arms(case), *PEER_ARMS), settings)
        for case in peer_cases(settings)
    }


def k_jobs(settings: SpeedSettings) -> Jobs:
    """The step with more and more crops."""
    case = k_case(settings)
    return {case.name: partial(measure, case, (ALONE, *k_arms(settings)), settings)}


def measure(
    case: Case, arms: Sequence[Arm], settings: SpeedSettings, floor: bool = False
) -> dict[str, Any]:
    """Time the arms in turns, and count the memory of each.

    Args:
        case: the host.
        arms: the host alone first.
        settings: device and repeats.
        floor: whether SP's crops and its own parts are timed beside, and operations counted.

    Returns:
        ``seconds``, rounds by arm; ``peak_bytes`` by arm; and with ``floor`` also ``flops`` and
        ``crop_side``.
    """
    fitted = {arm.name: fitted_arm(case, arm, settings) for arm in arms}
    turns: dict[str, Callable[[], list[float]]] = dict(fitted)
    told: dict[str, Any] = {}
    if floor:
        alone = Floor(case, settings, new_method(case.settings(settings.precision), 0), SP.sp or {})
        watch = Stopwatch(settings.target)
        turns[CROPS] = repeated(alone.crops, STEPS, watch)
        turns[PARTS] = repeated(alone.parts, STEPS, watch)
        turns[DRAWING] = repeated(alone.drawing, STEPS, watch)
        told["flops"] = counted_floor(partial(fitted[PLAIN].fit, 1), alone.crops)
        told["crop_side"] = alone.side
    told["peak_bytes"] = {
        name: peak_bytes(partial(arm.fit, 2), settings.target) for name, arm in fitted.items()
    }
    # The fits above have warmed them up.
    told["seconds"] = interleaved(turns, settings.repeats, warmups=0)
    return told


def fitted_arm(case: Case, arm: Arm, settings: SpeedSettings) -> Fitted:
    """The host with what the arm adds to it."""
    if arm.sp is not None:
        sp = SPCallback("backbone", arm.sp)
        return Fitted(case, settings, lambda method: [sp])
    if arm.peer:
        return Fitted(case, settings, lambda method: [Beside(arm.peer, method)])
    return Fitted(case, settings)
