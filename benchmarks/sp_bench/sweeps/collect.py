"""``sp-bench collect``: the finished runs of a suite as one JSON file per method."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sp_bench.errors import UsageError
from sp_bench.results import ARMS_WITHOUT_SP, BASELINE, Run, write_json
from sp_bench.run import RUN
from sp_bench.sweeps.job import ORIGIN

_DIGITS = 5
_OF_AN_ARM = ("sp", "pretext", "epochs")
_OF_ALL_RUNS = ("settings", "data", "versions", "machine")


@dataclass
class Evidence:
    """The results of a suite for one method.

    Attributes:
        suite: name of the suite.
        command: command that made the runs.
        settings: settings that all runs share.
        arms: settings by arm: those of SP, ``pretext``, ``epochs``, and the ``prediction`` that
            was written before the run.
        data: name, classes, number of images.
        versions: versions of Python and of the libraries.
        machine: processor, cores, device, precision.
        dates: days on which the runs began, sorted.
        runs: all finished runs.
    """

    suite: str
    command: str
    settings: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    data: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    dates: list[str]
    runs: list[Run]

    @property
    def epochs(self) -> int:
        """Epochs of the baseline, or of the first arm if there is no baseline."""
        return int(self.arms.get(BASELINE, next(iter(self.arms.values())))["epochs"])

    def save(self, path: Path) -> None:
        """Write as JSON, completely or not at all, with metrics rounded to five decimals."""
        path.parent.mkdir(parents=True, exist_ok=True)
        values = dataclasses.asdict(self)
        write_json(path, {**values, "runs": _rounded(values["runs"])})

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read what `save` wrote."""
        values = json.loads(path.read_text())
        return cls(**{**values, "runs": [Run(**run) for run in values["runs"]]})


def collect(out: Path, into: Path, suite: str) -> list[Path]:
    """Add the finished runs under ``out`` to the JSON files in ``into``, one file per method.

    A suite can therefore run in parts, also on several machines of one kind, and its results
    remain when the folders of its runs are gone.

    Args:
        out: output folder of the suite.
        into: folder for ``METHOD.json``.
        suite: name of the suite.

    Returns:
        The files, sorted by method.

    Raises:
        UsageError: there is no finished run; runs of one method and arm differ in settings, data,
            versions or machine; or a file has other metrics for one of the runs.
    """
    folders = sorted({path.parent.parent for path in out.glob(f"*/seed*/{RUN}")})
    if not folders:
        raise UsageError(f"collect: no finished run in {out}; takes the out folder of a suite")
    paths = []
    for folder in folders:
        path = into / f"{folder.name}.json"
        evidence = collect_method(folder, suite)
        if path.exists():
            evidence = _merge(Evidence.load(path), evidence, path)
        evidence.save(path)
        paths.append(path)
    return paths


def collect_method(folder: Path, suite: str) -> Evidence:
    """The evidence of one method, from the folder of its runs.

    Raises:
        UsageError: runs differ where they must agree.
    """
    shared: dict[str, Any] = {}
    arms: dict[str, dict[str, Any]] = {}
    runs, dates, file = [], set(), suite
    for path in sorted(folder.glob(f"seed*/{RUN}")):
        run = Run(**json.loads(path.read_text()))
        origin = json.loads((path.parent / ORIGIN).read_text())
        dates.add(origin["date"])
        file = origin.get("suite") or suite  # one file may have several results, such as limits
        origin["settings"] = _without_paths(origin["settings"])
        arm = {key: origin["settings"].pop(key) for key in _OF_AN_ARM}
        if run.arm in ARMS_WITHOUT_SP:
            arm["sp"] = {}
        arm["prediction"] = origin["prediction"]
        _require_equal(f"{run.arm} of {folder.name}", arms.setdefault(run.arm, arm), arm)
        of_run = {key: origin[key] for key in _OF_ALL_RUNS}
        shared = shared or of_run
        _require_equal(folder.name, shared, of_run)
        runs.append(dataclasses.replace(run, checkpoint=""))
    runs.sort(key=lambda run: (run.seed, run.arm))
    command = f"sp-bench suite configs/bench/{file}.yaml"
    return Evidence(suite, command, arms=arms, dates=sorted(dates), runs=runs, **shared)


def _merge(stored: Evidence, new: Evidence, path: Path) -> Evidence:
    """Stored and new evidence together; what is stored does not change."""
    for name, arm in new.arms.items():
        _require_equal(f"{name} of {path.stem}", stored.arms.get(name, arm), arm)
    shared = ("suite", *_OF_ALL_RUNS)
    _require_equal(path.stem, *({key: getattr(e, key) for key in shared} for e in (stored, new)))
    runs = {(run.seed, run.arm): run for run in stored.runs}
    for run in new.runs:
        before = runs.setdefault((run.seed, run.arm), run)
        if not _equal_metrics(_rounded(before.metrics), _rounded(run.metrics)):
            raise UsageError(
                f"collect: {path} has other metrics of {run.arm}, seed {run.seed}; "
                "takes another folder, or this one without that file"
            )
    return dataclasses.replace(
        stored,
        arms=dict(sorted({**new.arms, **stored.arms}.items())),
        dates=sorted({*stored.dates, *new.dates}),
        runs=[runs[key] for key in sorted(runs)],
    )


def _equal_metrics(first: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two runs have the same metrics; one that is NaN in both is the same."""
    return first.keys() == other.keys() and all(
        value == other[key] or (math.isnan(value) and math.isnan(other[key]))
        for key, value in first.items()
    )


def _require_equal(owner: str, first: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for key in first:
        if first[key] != other.get(key):
            raise UsageError(
                f"collect: runs of {owner} differ in {key}: {first[key]!r} and {other.get(key)!r}"
            )


def _without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with names of folders instead of their paths."""
    task_data = {task: Path(source).name for task, source in settings["task_data"].items()}
    values = {**settings, "data": Path(settings["data"]).name, "task_data": task_data}
    del values["longer"]
    return values


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
