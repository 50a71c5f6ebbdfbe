"""Tables of training steps: cost of SP, of its peers, and of more crops."""

from __future__ import annotations

from sp_bench.goals import at_most
from sp_bench.report.number_format import MISSING
from sp_bench.report.table import LEFT, Column, Table
from sp_bench.speed.cases import HOST_VIEWS, PLAIN, SP
from sp_bench.speed.formatting import (
    Measurements,
    SpeedTable,
    estimate,
    factor,
    memory,
    milliseconds,
    share,
    without_repeats,
)
from sp_bench.speed.step_benchmark import CROPS, PART_ARMS, PARTS, SAMPLING
from sp_bench.speed.timing import ratio

_OVER_LOWER_BOUND = (
    "Operations are not time. Small crops in a small batch use a core less efficiently than the "
    "method's views; the timed lower bound includes this effect, and the rest is SP's own parts."
)
_OWN_PARTS = (
    "The largest part is the head, forward and backward. Its cost is that of reading and writing "
    "its weights, so with small batches it hardly depends on the method, and its share falls with "
    "a larger batch or backbone. A smaller `hidden_dim` reduces it."
)
_HOST_VIEWS = "The head, and its part of the optimizer's step."


def step_table(measurements: Measurements) -> SpeedTable:
    """One row per case and way to add SP."""
    names, rows = [], []
    over_bound, own_parts, host_views = [], [], []  # values of the goals, by case
    for case, measurement in measurements.items():
        times = measurement["seconds"]
        relative = {arm: ratio(rounds, times[PLAIN]) for arm, rounds in times.items()}
        for arm in times:
            if arm == PLAIN or arm in PART_ARMS:
                continue
            step = relative[arm].value
            bound, bound_cells = 1.0, [MISSING] * 4  # the method's own views cost no pass
            if arm == SP.name:
                bound = measurement["flops"]["lower_bound"]
                timed_bound = 1 + relative[CROPS].value
                parts, sampling = relative[PARTS].value, relative[SAMPLING].value
                bound_cells = [factor(timed_bound), factor(step / timed_bound)]
                bound_cells += [share(parts), share(sampling)]
                over_bound.append((case, step / bound))
                own_parts.append((case, parts))
            elif arm == HOST_VIEWS.name:
                host_views.append((case, step))
            names.append(case)
            rows.append(
                [
                    arm,
                    milliseconds(times[PLAIN]),
                    milliseconds(times[arm]),
                    estimate(relative[arm]),
                    factor(bound),
                    factor(step / bound),
                    *bound_cells,
                    *memory(measurement, arm),
                ]
            )
    numbers = (
        "alone, ms", "with it, ms", "ratio", "lower bound", "ratio / bound", "timed bound",
        "ratio / timed", "own parts", "sampling", "memory, MB", "with it, MB",
    )  # fmt: skip
    table = Table(
        [Column("host", LEFT), Column("added", LEFT), *map(Column, numbers)],
        [[name, *row] for name, row in zip(without_repeats(names), rows, strict=True)],
        title="Step ratio",
        note="Time of a training step with SP relative to the same step without. Lower bound: 1 + "
        "FLOPs of the crops / FLOPs of the host's step, forward and backward. Timed bound: "
        "the same from the time of a bare forward and backward pass of the crops. Own parts: "
        "sampling, cropping, guards, targets, head and loss, timed alone, in percent of the host's "
        "step; sampling: of these, sampling and cropping.",
    )
    return SpeedTable(
        table,
        [
            at_most("ratio / lower bound at most 1.10", 1.10, over_bound, ".3f", _OVER_LOWER_BOUND),
            at_most("SP's own parts under 2% of a step", 0.02, own_parts, ".1%", _OWN_PARTS),
            at_most(
                "source=host_views: step ratio at most 1.03", 1.03, host_views, ".3f", _HOST_VIEWS
            ),
        ],
    )


def peer_table(measurements: Measurements) -> SpeedTable:
    """One row per case and peer."""
    names, rows = [], []
    for case, measurement in measurements.items():
        times = measurement["seconds"]
        for arm in times:
            if arm != PLAIN:
                names.append(case)
                step = milliseconds(times[PLAIN]), milliseconds(times[arm])
                step_ratio = estimate(ratio(times[arm], times[PLAIN]))
                rows.append([arm, *step, step_ratio, *memory(measurement, arm)])
    numbers = ("alone, ms", "with it, ms", "ratio", "memory, MB", "with it, MB")
    table = Table(
        [Column("host", LEFT), Column("added", LEFT), *map(Column, numbers)],
        [[name, *row] for name, row in zip(without_repeats(names), rows, strict=True)],
        title="Peers",
        note="Small reference implementations of AugSelf (arXiv 2111.09613) and Drloc (arXiv "
        "2106.03746) in the same step. Both use features that the method computes anyway.",
    )
    return SpeedTable(table, [])


def k_table(measurements: Measurements) -> SpeedTable:
    """One row per number of crops and pairs."""
    rows = []
    for measurement in measurements.values():
        times = measurement["seconds"]
        for arm in times:
            step_ratio = estimate(ratio(times[arm], times[PLAIN]))
            _, peak = memory(measurement, arm)
            rows.append([arm, milliseconds(times[arm]), step_ratio, peak])
    case = next(iter(measurements), "")
    table = Table(
        [Column("added", LEFT), *map(Column, ("ms", "ratio", "memory, MB"))],
        rows,
        title="Cost against the number of crops",
        note=f"The step of {case}. Each crop is encoded once, whatever the number of pairs.",
    )
    return SpeedTable(table, [])
