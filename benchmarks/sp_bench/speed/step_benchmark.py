"""Training steps: with and without SP, with peers, and with more crops."""

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
from sp_bench.speed.cost_lower_bound import CostLowerBound, count_lower_bound
from sp_bench.speed.memory import peak_bytes
from sp_bench.speed.peer_callback import PeerCallback
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.timing import Stopwatch, interleaved, repeated
from sp_bench.speed.trainer_benchmark import STEPS, TimedArm

CROPS, PARTS, SAMPLING = "crops alone", "SP's own parts", "sampling crops"
PART_ARMS = (CROPS, PARTS, SAMPLING)
Jobs = dict[str, Callable[[], dict[str, Any]]]


def step_jobs(settings: SpeedSettings) -> Jobs:
    """Step ratio of every case, with its lower bound."""
    return {
        case.name: partial(
            measure, case, (ALONE, *sp_arms(case)), settings, measures_lower_bound=True
        )
        for case in step_cases(settings)
    }


def peer_jobs(settings: SpeedSettings) -> Jobs:
    """The same step with SP and with peers."""
    return {
        case.name: partial(measure, case, (ALONE, *sp_arms(case), *PEER_ARMS), settings)
        for case in peer_cases(settings)
    }


def k_jobs(settings: SpeedSettings) -> Jobs:
    """The step with 2 to 8 crops."""
    case = k_case(settings)
    return {case.name: partial(measure, case, (ALONE, *k_arms(settings)), settings)}


def measure(
    case: Case,
    arms: Sequence[Arm],
    settings: SpeedSettings,
    measures_lower_bound: bool = False,
) -> dict[str, Any]:
    """Time arms in turns, and measure the memory of each.

    Args:
        case: training run that the arms add to.
        arms: arms, the first of which adds nothing.
        settings: device and number of rounds.
        measures_lower_bound: whether SP's crops and SP's own parts are timed on their own, and
            operations counted; default False.

    Returns:
        ``seconds`` by arm and round; ``peak_bytes`` by arm; with ``measures_lower_bound`` also
        ``flops`` and ``crop_side``.
    """
    timed = {arm.name: timed_arm(case, arm, settings) for arm in arms}
    rounds: dict[str, Callable[[], list[float]]] = dict(timed)
    result: dict[str, Any] = {}
    if measures_lower_bound:
        method = new_method(case.settings(settings.precision), 0)
        bound = CostLowerBound(case, settings, method, SP.sp or {})
        watch = Stopwatch(settings.target)
        rounds[CROPS] = repeated(bound.run_crops, STEPS, watch)
        rounds[PARTS] = repeated(bound.run_parts, STEPS, watch)
        rounds[SAMPLING] = repeated(bound.sample_crops, STEPS, watch)
        result["flops"] = count_lower_bound(partial(timed[PLAIN].fit, 1), bound.run_crops)
        result["crop_side"] = bound.crop_size
    result["peak_bytes"] = {
        name: peak_bytes(partial(arm.fit, 2), settings.target) for name, arm in timed.items()
    }
    # The measurement of memory has warmed up all arms.
    result["seconds"] = interleaved(rounds, settings.repeats, warmups=0)
    return result


def timed_arm(case: Case, arm: Arm, settings: SpeedSettings) -> TimedArm:
    """The training run of a case with what an arm adds to it."""
    if arm.sp is not None:
        callback = SPCallback("backbone", arm.sp)
        return TimedArm(case, settings, lambda method: [callback])
    if arm.peer:
        return TimedArm(case, settings, lambda method: [PeerCallback(arm.peer, method)])
    return TimedArm(case, settings)
