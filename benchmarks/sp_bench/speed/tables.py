"""Tables and goals of all parts of a measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sp_bench.goals import Goal, at_least, at_most
from sp_bench.report.number_format import MISSING, bounds
from sp_bench.report.table import LEFT, Column, Table
from sp_bench.speed.cases import HOST_VIEWS, PLAIN, PROBE, PROBE_EVERY, SP, WHOLE
from sp_bench.speed.crop_benchmark import FRACTIONAL, ONE_BY_ONE, OURS
from sp_bench.speed.dataloader_benchmark import WITH, WITHOUT
from sp_bench.speed.step_benchmark import CROPS, PARTS, SAMPLING
from sp_bench.speed.timing import Estimate, Rounds, median_seconds, ratio

Measurements = Mapping[str, Mapping[str, Any]]

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
_PROBE = (
    "The probe encodes its crops whole and MAE a quarter of an image's tokens, so the same crops "
    "are a larger part of its step."
)
_SLOWER = (
    "On a CPU, boxes on whole pixels use torch's own filter. Fractional boxes, which are what SP "
    "samples, are two matrix products with a dense row of weights per output pixel; a shared "
    "resolution adds a product of the weights themselves."
)
_DATA = (
    "The share of SP's pixels is the expected cost; the rest is a constant cost per image, which "
    "matters for small views: both resizes of each crop, and reading the generators' states. "
    "Colours are the step's, on the device."
)


class SpeedTable(NamedTuple):
    """The table of one part of a measurement, with title and note, and the goals it decides."""

    table: Table
    goals: list[Goal]


def tables(result: Mapping[str, Any]) -> list[SpeedTable]:
    """One table per part that was measured.

    Raises:
        KeyError: a measurement lacks a value, because another version wrote it.
    """
    makers: dict[str, Callable[[Measurements], SpeedTable]] = {
        "steps": step_table,
        "crops": partial(crop_table, gpu=result["settings"]["device"] == "cuda"),
        "data": data_table,
        "peers": peer_table,
        "k": k_table,
    }
    return [makers[part](measurements) for part, measurements in result["parts"].items()]


def milliseconds(rounds: Rounds) -> str:
    """Median of all steps, from seconds.

    >>> milliseconds([[0.1, 0.2, 0.3]]), milliseconds([[0.00125]])
    ('200', '1.25')
    """
    median = 1000 * median_seconds(rounds)
    return f"{median:.{0 if median >= 100 else 1 if median >= 10 else 2}f}"


def estimate(value: Estimate, form: Callable[[float], str] = "{:.3f}".format) -> str:
    """A value with its interval; one round has none.

    >>> estimate(Estimate(1.25, 1.2, 1.3))
    '1.250 [1.200, 1.300]'
    """
    interval = "" if math.isnan(value.low) else f" {bounds(value.low, value.high, form)}"
    return form(value.value) + interval


def step_table(measurements: Measurements) -> SpeedTable:
    """One row per case and way to add SP."""
    rows: list[list[str]] = []
    over_bound, own_parts, host_views, probes = [], [], [], []  # values of the goals, by case
    for case, measurement in measurements.items():
        relative = {
            arm: ratio(rounds, measurement["seconds"][PLAIN])
            for arm, rounds in measurement["seconds"].items()
        }
        for arm in _arms(measurement):
            step = relative[arm].value
            bounds_of = [MISSING] * 6  # only SP's own crops have a lower bound
            if arm == PROBE.name:
                probes.append((case, 1 + (step - 1) / PROBE_EVERY))
            elif arm == HOST_VIEWS.name:
                host_views.append((case, step))
            else:
                bound = measurement["flops"]["lower_bound"]
                if arm == WHOLE.name:
                    bound = 1 + (bound - 1) / measurement["share"]
                bounds_of[:2] = f"{bound:.3f}", f"{step / bound:.3f}"
            if arm == SP.name:
                timed_bound, parts = 1 + relative[CROPS].value, relative[PARTS].value
                bounds_of[2:4] = f"{timed_bound:.3f}", f"{step / timed_bound:.3f}"
                bounds_of[4:] = f"{parts:.1%}", f"{relative[SAMPLING].value:.1%}"
                over_bound.append((case, step / bound))
                own_parts.append((case, parts))
            rows.append(
                [case, arm, *_times(measurement, arm), *bounds_of, *_peaks(measurement, arm)]
            )
    numbers = (
        "alone, ms", "with it, ms", "ratio", "lower bound", "ratio / bound", "timed bound",
        "ratio / timed", "own parts", "sampling", "memory, MB", "with it, MB",
    )  # fmt: skip
    table = _table(
        ("host", "added"),
        numbers,
        rows,
        "Step ratio",
        "Time of a training step with SP relative to the same step without. Lower bound: 1 + "
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
            at_most(
                f"spatial probe in every {PROBE_EVERY}th step: at most 1.05",
                1.05,
                probes,
                ".3f",
                _PROBE,
            ),
        ],
    )


def peer_table(measurements: Measurements) -> SpeedTable:
    """One row per case and peer."""
    rows = [
        [case, arm, *_times(measurement, arm), *_peaks(measurement, arm)]
        for case, measurement in measurements.items()
        for arm in _arms(measurement)
    ]
    table = _table(
        ("host", "added"),
        ("alone, ms", "with it, ms", "ratio", "memory, MB", "with it, MB"),
        rows,
        "Peers",
        "Small reference implementations of AugSelf (arXiv 2111.09613) and Drloc (arXiv "
        "2106.03746) in the same step. Both use features that the method computes anyway.",
    )
    return SpeedTable(table, [])


def k_table(measurements: Measurements) -> SpeedTable:
    """One row per number of crops and pairs."""
    rows = [
        [arm, *_times(measurement, arm)[1:], _peaks(measurement, arm)[1]]
        for measurement in measurements.values()
        for arm in (PLAIN, *_arms(measurement))
    ]
    case = next(iter(measurements), "")
    note = f"The step of {case}. Each crop is encoded once, whatever the number of pairs."
    title = "Cost against the number of crops"
    return SpeedTable(_table(("added",), ("ms", "ratio", "memory, MB"), rows, title, note), [])


def crop_table(measurements: Measurements, gpu: bool = False) -> SpeedTable:
    """One row per function, under each shape.

    Args:
        measurements: results of `sp_bench.speed.crop_benchmark.measure`, by shape.
        gpu: whether they are of a GPU, which has another goal; default False.
    """
    rows: list[list[str]] = []
    speeds, errors = [], []  # of `crop_resize`, for the goals
    for shape, measurement in measurements.items():
        times = measurement["seconds"]
        for function, rounds in times.items():
            speedup = ratio(times[ONE_BY_ONE], rounds)
            error = measurement["errors"].get(function, {})
            cells = [f"{255 * error[key]:.3g}" if error else MISSING for key in ("max", "mean")]
            rows.append([shape, function, milliseconds(rounds), estimate(speedup), *cells])
            if function in (OURS, FRACTIONAL):
                speeds.append((f"{function}, {shape}", speedup.value))
            if function == OURS:
                errors.append((f"{function}, {shape}", error["max"]))
        missing = measurement["missing"].items()
        rows += [[shape, name, why, *[MISSING] * 3] for name, why in missing]
    table = _table(
        ("batch", "function"),
        ("ms", "speed-up", "largest error", "mean error"),
        rows,
        "Crops",
        f"One box out of each image, the same boxes for all. Speed-up: over {ONE_BY_ONE}. "
        "Errors are differences from it on whole-pixel boxes, in units of 1/255 of the images' "
        "range; the images are noise. The tests compare fractional boxes with the filter's "
        "definition.",
    )
    statement = "at least 20 times as fast as" if gpu else "never slower than"
    speed_goal = f"crop_resize: {statement} torchvision one by one"
    return SpeedTable(
        table,
        [
            at_most("crop_resize: error at most 1/255", 1 / 255, errors, ".1e"),
            at_least(speed_goal, 20.0 if gpu else 1.0, speeds, why=_SLOWER),
        ],
    )


def data_table(measurements: Measurements) -> SpeedTable:
    """One row per pipeline."""
    rows, costs = [], []
    for pipeline, measurement in measurements.items():
        times = measurement["seconds"]
        cost = Estimate(*(value - 1 for value in ratio(times[WITH], times[WITHOUT])))
        costs.append((pipeline, cost.value))
        speeds = [f"{1 / median_seconds(times[arm]):.1f}" for arm in (WITHOUT, WITH)]
        share = f"{measurement['pixels']:.1%}"
        rows.append([pipeline, *speeds, estimate(cost, "{:.1%}".format), share])
    source = next((measurement["source"] for measurement in measurements.values()), "")
    table = _table(
        ("pipeline",),
        ("images per second", "with source=image", "cost", "pixels"),
        rows,
        "Data path",
        "Decoding and transforming in one process; with source=image each image is decoded "
        "once for the method's views and SP's crops. Pixels: those of SP's crops, in percent of "
        f"the views'. Images: {source}.",
    )
    goal = at_most("source=image costs under 15% of the pipeline", 0.15, costs, ".1%", _DATA)
    return SpeedTable(table, [goal])


def _arms(measurement: Mapping[str, Any]) -> list[str]:
    """The arms that add something to the host's step."""
    return [arm for arm in measurement["peak_bytes"] if arm != PLAIN]


def _times(measurement: Mapping[str, Any], arm: str) -> list[str]:
    """Step of the host alone and of an arm, in ms, and their ratio."""
    alone, with_it = (measurement["seconds"][name] for name in (PLAIN, arm))
    return [milliseconds(alone), milliseconds(with_it), estimate(ratio(with_it, alone))]


def _peaks(measurement: Mapping[str, Any], arm: str) -> list[str]:
    """Peak memory of the host alone and of an arm, in MB."""
    return [f"{measurement['peak_bytes'][name] / 1e6:.0f}" for name in (PLAIN, arm)]


def _table(
    names: Sequence[str], numbers: Sequence[str], rows: list[list[str]], title: str, note: str
) -> Table:
    """A table in which a first cell that repeats the one above is empty, if there are two names."""
    firsts = ["", *(row[0] for row in rows)]
    if len(names) > 1:
        rows = [
            ["" if row[0] == above else row[0], *row[1:]]
            for row, above in zip(rows, firsts, strict=False)
        ]
    columns = [Column(name, LEFT) for name in names] + [Column(number) for number in numbers]
    return Table(columns, rows, title=title, note=note)
