"""From measurements to tables, with the goals that each speaks of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sp_bench.goals import at_least, at_most
from sp_bench.speed.crop_benchmark import EACH, FRACTIONAL, GRID, OURS, ROI
from sp_bench.speed.dataloader_benchmark import WITH, WITHOUT
from sp_bench.speed.formatting import (
    NOTHING,
    Entries,
    SpeedTable,
    estimate,
    milliseconds,
    once,
    share,
)
from sp_bench.speed.step_tables import k_table, peer_table, step_table
from sp_bench.speed.timing import Estimate, ratio, seconds

_SLOWER = (
    "On a CPU boxes on whole pixels take torch's own filter. Fractional ones, which are what SP "
    "draws, are two matrix products with a dense row of weights for each output pixel; through a "
    "shared resolution the weights themselves are a product more."
)
_DATA = (
    "Most of it is each crop's own colours (jitter, grey, blur). The share of SP's pixels is what "
    "it must cost; the rest is a fixed price for each call, which shows on small views."
)


def tables(result: Mapping[str, Any]) -> list[SpeedTable]:
    """A table for each part that was measured."""
    makers: dict[str, Callable[[Entries], SpeedTable]] = {
        "steps": step_table,
        "crops": partial(crop_table, gpu=result["settings"]["device"] == "cuda"),
        "data": data_table,
        "peers": peer_table,
        "k": k_table,
    }
    return [makers[part](entries) for part, entries in result["parts"].items()]


def crop_table(entries: Entries, gpu: bool = False) -> SpeedTable:
    """A row for each way to crop, under each shape."""
    names: list[str] = []
    rows: list[tuple[str, ...]] = []
    speeds, errors = [], []  # of `crop_resize`, for the goals
    for name, told in entries.items():
        taken = told["seconds"]
        for way in taken:
            faster = ratio(taken[EACH], taken[way])
            whole, drawn = told["errors"].get(way), told["fractional_errors"].get(way)
            rows.append(
                (way, milliseconds(taken[way]), estimate(faster), *_error(whole), *_error(drawn))
            )
            if way in (OURS, FRACTIONAL):
                speeds.append((f"{way}, {name}", faster.value))
                errors += [(f"{way}, {name}", each["max"]) for each in (whole, drawn) if each]
        rows += [(way, why, *[NOTHING] * 5) for way, why in told["missing"].items()]
        names += [name] * (len(rows) - len(names))
    least = 20.0 if gpu else 1.0
    wanted = "at least 20 times as fast as" if gpu else "never slower than"
    return SpeedTable(
        "Crops",
        2,
        (
            "batch", "way", "ms", "times as fast", "largest error", "mean error",
            "fractional: largest", "fractional: mean",
        ),
        [(name, *row) for name, row in zip(once(names), rows, strict=True)],
        f"One box out of each image, the same boxes for all. Times as fast: as {EACH}. Errors "
        "are differences from that on whole-pixel boxes, and on fractional ones "
        f"({FRACTIONAL}; {GRID}; {ROI}) from the filter's definition, in units of 1/255 of the "
        "images' range; the images are noise.",
        [
            at_most("crop_resize: error at most 1/255", 1 / 255, errors, ".1e"),
            at_least(f"crop_resize: {wanted} torchvision one by one", least, speeds, why=_SLOWER),
        ],
    )  # fmt: skip


def data_table(entries: Entries) -> SpeedTable:
    """A row for each pipeline."""
    rows, costs = [], []
    for name, told in entries.items():
        with_sp, without = told["seconds"][WITH], told["seconds"][WITHOUT]
        more = Estimate(*(each - 1 for each in ratio(with_sp, without)))
        costs.append((name, more.value))
        speeds = (f"{1 / seconds(each).value:.1f}" for each in (without, with_sp))
        rows.append((name, *speeds, estimate(more, share), share(told["pixels"])))
    source = next((told["source"] for told in entries.values()), "")
    return SpeedTable(
        "Data path",
        1,
        ("pipeline", "images a second", "with source=image", "cost", "pixels"),
        rows,
        "Decoding and transforming in one process; with source=image each image is decoded once "
        "for the host's views and SP's crops. Pixels: of SP's crops, in percent of the views'. "
        f"ImageDataset: {source}.",
        [at_most("source=image costs under 15% of the pipeline", 0.15, costs, ".1%", _DATA)],
    )


def _error(found: Mapping[str, float] | None) -> tuple[str, str]:
    if found is None:
        return NOTHING, NOTHING
    return f"{255 * found['max']:.3g}", f"{255 * found['mean']:.3g}"
