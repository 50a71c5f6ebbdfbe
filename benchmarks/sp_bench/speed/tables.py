"""Tables and goals of all parts of a measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sp_bench.goals import at_least, at_most
from sp_bench.report.number_format import MISSING
from sp_bench.report.table import LEFT, Column, Table
from sp_bench.speed.crop_benchmark import FRACTIONAL, GRID, ONE_BY_ONE, OURS, ROI
from sp_bench.speed.dataloader_benchmark import WITH, WITHOUT
from sp_bench.speed.formatting import (
    Measurements,
    SpeedTable,
    estimate,
    milliseconds,
    share,
    without_repeats,
)
from sp_bench.speed.step_tables import k_table, peer_table, step_table
from sp_bench.speed.timing import Estimate, ratio, seconds

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


def tables(result: Mapping[str, Any]) -> list[SpeedTable]:
    """One table per part that was measured."""
    makers: dict[str, Callable[[Measurements], SpeedTable]] = {
        "steps": step_table,
        "crops": partial(crop_table, gpu=result["settings"]["device"] == "cuda"),
        "data": data_table,
        "peers": peer_table,
        "k": k_table,
    }
    return [makers[part](measurements) for part, measurements in result["parts"].items()]


def crop_table(measurements: Measurements, gpu: bool = False) -> SpeedTable:
    """One row per function, under each shape.

    Args:
        measurements: results of `sp_bench.speed.crop_benchmark.measure`, by shape.
        gpu: whether they are of a GPU, which has another goal; default False.
    """
    names: list[str] = []
    rows: list[list[str]] = []
    speeds, errors = [], []  # of `crop_resize`, for the goals
    for shape, measurement in measurements.items():
        times = measurement["seconds"]
        for function, rounds in times.items():
            speedup = ratio(times[ONE_BY_ONE], rounds)
            whole = measurement["errors"].get(function)
            fractional = measurement["fractional_errors"].get(function)
            cells = milliseconds(rounds), estimate(speedup), *_error(whole), *_error(fractional)
            rows.append([function, *cells])
            if function in (OURS, FRACTIONAL):
                name = f"{function}, {shape}"
                speeds.append((name, speedup.value))
                errors += [(name, error["max"]) for error in (whole, fractional) if error]
        rows += [[name, why, *[MISSING] * 5] for name, why in measurement["missing"].items()]
        names += [shape] * (len(rows) - len(names))
    numbers = (
        "ms", "speed-up", "largest error", "mean error", "fractional: largest", "fractional: mean",
    )  # fmt: skip
    table = Table(
        [Column("batch", LEFT), Column("function", LEFT), *map(Column, numbers)],
        [[name, *row] for name, row in zip(without_repeats(names), rows, strict=True)],
        title="Crops",
        note=f"One box out of each image, the same boxes for all. Speed-up: over {ONE_BY_ONE}. "
        "Errors are differences from it on whole-pixel boxes, and on fractional boxes "
        f"({FRACTIONAL}; {GRID}; {ROI}) from the filter's definition, in units of 1/255 of the "
        "images' range; the images are noise.",
    )
    least_speedup = 20.0 if gpu else 1.0
    statement = "at least 20 times as fast as" if gpu else "never slower than"
    speed_goal = f"crop_resize: {statement} torchvision one by one"
    return SpeedTable(
        table,
        [
            at_most("crop_resize: error at most 1/255", 1 / 255, errors, ".1e"),
            at_least(speed_goal, least_speedup, speeds, why=_SLOWER),
        ],
    )


def data_table(measurements: Measurements) -> SpeedTable:
    """One row per pipeline."""
    rows, costs = [], []
    for pipeline, measurement in measurements.items():
        with_sp, without = measurement["seconds"][WITH], measurement["seconds"][WITHOUT]
        cost = Estimate(*(value - 1 for value in ratio(with_sp, without)))
        costs.append((pipeline, cost.value))
        speeds = [f"{1 / seconds(rounds).value:.1f}" for rounds in (without, with_sp)]
        rows.append([pipeline, *speeds, estimate(cost, share), share(measurement["pixels"])])
    source = next((measurement["source"] for measurement in measurements.values()), "")
    numbers = ("images per second", "with source=image", "cost", "pixels")
    table = Table(
        [Column("pipeline", LEFT), *map(Column, numbers)],
        rows,
        title="Data path",
        note="Decoding and transforming in one process; with source=image each image is decoded "
        "once for the method's views and SP's crops. Pixels: those of SP's crops, in percent of "
        f"the views'. Images: {source}.",
    )
    goal = at_most("source=image costs under 15% of the pipeline", 0.15, costs, ".1%", _DATA)
    return SpeedTable(table, [goal])


def _error(error: Mapping[str, float] | None) -> tuple[str, str]:
    """Largest and mean error in units of 1/255."""
    if error is None:
        return MISSING, MISSING
    return f"{255 * error['max']:.3g}", f"{255 * error['mean']:.3g}"
