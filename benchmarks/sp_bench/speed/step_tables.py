"""Tables of steps: what SP costs a host, beside its peers, and with more crops."""

from __future__ import annotations

from sp_bench.goals import at_most
from sp_bench.speed.cases import HOST, PLAIN, SP
from sp_bench.speed.formatting import (
    NOTHING,
    Entries,
    SpeedTable,
    estimate,
    factor,
    memory,
    milliseconds,
    once,
    share,
)
from sp_bench.speed.step_benchmark import BESIDE, CROPS, DRAWING, PARTS
from sp_bench.speed.timing import ratio

_OVER_FLOOR = (
    "Operations are not time. Small crops in a small batch use a core worse than the host's views "
    "do; the timed floor has that in it, and what is left above it are SP's own parts."
)
_OWN_PARTS = (
    "Most of them is the head, forward and backward. Its weights are what is read and written, so "
    "with small batches it costs nearly the same whatever the host costs, and its share falls as "
    "the batch or the backbone grows. `head_width` makes it smaller."
)
_REUSED = "The head, and its part of the optimizer's step."


def step_table(entries: Entries) -> SpeedTable:
    """A row for each host and each way to add SP."""
    names: list[str] = []
    rows: list[tuple[str, ...]] = []
    over, own, reused = [], [], []  # by host, for the goals
    for name, told in entries.items():
        taken = told["seconds"]
        parts, drawing = (ratio(taken[part], taken[PLAIN]).value for part in (PARTS, DRAWING))
        timed = 1 + ratio(taken[CROPS], taken[PLAIN]).value
        for arm in (arm for arm in taken if arm not in (PLAIN, *BESIDE)):
            measured = ratio(taken[arm], taken[PLAIN])
            cells = [milliseconds(taken[PLAIN]), milliseconds(taken[arm]), estimate(measured)]
            if arm == SP.name:
                floor = told["flops"]["floor"]
                over.append((name, measured.value / floor))
                own.append((name, parts))
                cells += [factor(floor), factor(measured.value / floor)]
                cells += [factor(timed), factor(measured.value / timed)]
                cells += [share(parts), share(drawing)]
            else:  # the host's own embeddings cost no pass
                cells += [factor(1), factor(measured.value), *[NOTHING] * 4]
            if arm == HOST.name:
                reused.append((name, measured.value))
            names.append(name)
            rows.append((arm, *cells, *memory(told, arm)))
    goals = [
        at_most("measured / floor at most 1.10", 1.10, over, ".3f", _OVER_FLOOR),
        at_most("SP's own parts under 2% of a step", 0.02, own, ".1%", _OWN_PARTS),
        at_most("source=host_views: step ratio at most 1.03", 1.03, reused, ".3f", _REUSED),
    ]
    return SpeedTable(
        "Step ratio",
        2,
        (
            "host", "added", "alone, ms", "with it, ms", "ratio", "floor", "ratio / floor",
            "timed floor", "ratio / timed", "own parts", "drawing", "memory, MB", "with it, MB",
        ),
        [(name, *row) for name, row in zip(once(names), rows, strict=True)],
        "A training step with SP over the same step without. Floor: 1 + FLOPs of the crops / FLOPs "
        "of the host's step, forward and backward, counted. Timed floor: the same by the clock, "
        "with the bare forward and backward pass of the crops. Own parts: sampling, cropping, "
        "guards, targets, head and loss, timed alone, in percent of the host's step; drawing is "
        "the sampling and cropping among them.",
        goals,
    )  # fmt: skip


def peer_table(entries: Entries) -> SpeedTable:
    """A row for each peer beside each host."""
    names: list[str] = []
    rows: list[tuple[str, ...]] = []
    for name, told in entries.items():
        taken = told["seconds"]
        for arm in (arm for arm in taken if arm != PLAIN):
            times = milliseconds(taken[PLAIN]), milliseconds(taken[arm])
            names.append(name)
            measured = estimate(ratio(taken[arm], taken[PLAIN]))
            rows.append((arm, *times, measured, *memory(told, arm)))
    return SpeedTable(
        "Peers",
        2,
        ("host", "added", "alone, ms", "with it, ms", "ratio", "memory, MB", "with it, MB"),
        [(name, *row) for name, row in zip(once(names), rows, strict=True)],
        "Small references of AugSelf (arXiv 2111.09613) and Drloc (arXiv 2106.03746) in the same "
        "step. Both ask about what the host encodes anyway.",
        [],
    )


def k_table(entries: Entries) -> SpeedTable:
    """A row for each number of crops and pairs."""
    rows = [
        (
            arm, milliseconds(taken), estimate(ratio(taken, told["seconds"][PLAIN])),
            memory(told, arm)[1],
        )
        for told in entries.values()
        for arm, taken in told["seconds"].items()
    ]  # fmt: skip
    host = next(iter(entries), "")
    return SpeedTable(
        "Cost against the number of crops",
        1,
        ("added", "ms", "ratio", "memory, MB"),
        rows,
        f"The step of {host}. Each crop is encoded once, however many pairs there are of them.",
        [],
    )
