"""From the folders of a suite's runs to the JSON that is kept: one file for each host."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sp_bench.errors import UsageError
from sp_bench.results import ALONE, BASELINE, Run, write_json
from sp_bench.run import RUN
from sp_bench.sweeps.job import ORIGIN

_DIGITS = 5
_OF_AN_ARM = ("sp", "pretext", "epochs")


@dataclass
class Evidence:
    """What a suite has measured of one host.

    Attributes:
        suite: its name.
        command: that made them.
        settings: what all runs share.
        arms: by name: SP's settings, ``pretext``, ``epochs``, and the ``prediction`` that was
            written before.
        data: name, classes, images.
        versions, machine: of the runs.
        dates: on which they were begun, first and last.
        runs: every finished one.
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
        """Of the baseline; of the first arm where there is none."""
        return int(self.arms.get(BASELINE, next(iter(self.arms.values())))["epochs"])

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all; figures with five digits after the point."""
        path.parent.mkdir(parents=True, exist_ok=True)
        told = dataclasses.asdict(self)
        write_json(path, {**told, "runs": _rounded(told["runs"])})

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read what `save` wrote."""
        told = json.loads(path.read_text())
        return cls(**{**told, "runs": [Run(**run) for run in told["runs"]]})


def collect(out: Path, into: Path, suite: str) -> list[Path]:
    """Gather every finished run under ``out`` by host, beside those that ``into`` keeps already.

    So a suite may be run in parts, on more than one machine of a kind, and a part that is kept
    outlives the folder of its runs.

    Args:
        out: of the suite.
        into: folder for ``HOST.json``.
        suite: its name.

    Returns:
        The files, by host.

    Raises:
        UsageError: no finished run; runs of one host and one arm that were made with other
            settings, or in another place; or one that is kept with other figures.
    """
    hosts = sorted({path.parent.parent for path in out.glob(f"*/seed*/{RUN}")})
    if not hosts:
        raise UsageError(f"collect: no finished run in {out}; takes the out folder of a suite")
    paths = []
    for host in hosts:
        path = into / f"{host.name}.json"
        found = gather(host, suite)
        if path.exists():
            found = _together(Evidence.load(path), found, path)
        found.save(path)
        paths.append(path)
    return paths


def gather(host: Path, suite: str) -> Evidence:
    """The evidence of one host, from the folder of its runs."""
    shared: dict[str, Any] = {}
    arms: dict[str, dict[str, Any]] = {}
    runs, dates = [], set()
    for path in sorted(host.glob(f"seed*/{RUN}")):
        run = Run(**json.loads(path.read_text()))
        origin = json.loads((path.parent / ORIGIN).read_text())
        settings = _without_places(origin["settings"])
        dates.add(origin["date"])
        own = {key: settings.pop(key) for key in _OF_AN_ARM}
        own["sp"] = {} if run.arm in ALONE else own["sp"]
        own["prediction"] = origin["prediction"]
        _agree(f"{run.arm} of {host.name}", arms.setdefault(run.arm, own), own)
        told = {key: origin[key] for key in ("data", "versions", "machine")}
        told["settings"] = settings
        _agree(host.name, shared.setdefault("told", told), told)
        runs.append(dataclasses.replace(run, checkpoint=""))
    runs.sort(key=lambda run: (run.seed, run.arm))
    command = f"sp-bench suite configs/bench/{suite}.yaml"
    told = {"suite": suite, "command": command, "arms": arms, "dates": sorted(dates)}
    return Evidence(runs=runs, **told, **shared["told"])


def _together(kept: Evidence, found: Evidence, path: Path) -> Evidence:
    """What ``path`` keeps and what was found; nothing that is kept is changed."""
    for name, arm in found.arms.items():
        _agree(f"{name} of {path.stem}", kept.arms.get(name, arm), arm)
    whole = ("suite", "settings", "data", "versions", "machine")
    _agree(path.stem, *({key: getattr(part, key) for key in whole} for part in (kept, found)))
    runs = {(run.seed, run.arm): run for run in kept.runs}
    for run in found.runs:
        before = runs.setdefault((run.seed, run.arm), run)
        if _rounded(before.figures) != _rounded(run.figures):
            raise UsageError(
                f"collect: {path} keeps other figures of {run.arm}, seed {run.seed}; "
                "takes another folder, or this one without that file"
            )
    return dataclasses.replace(
        kept,
        arms=dict(sorted({**found.arms, **kept.arms}.items())),
        dates=sorted({*kept.dates, *found.dates}),
        runs=[runs[key] for key in sorted(runs)],
    )


def _agree(whose: str, first: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for key in first:
        if first[key] != other[key]:
            raise UsageError(
                f"collect: runs of {whose} differ in {key}: {first[key]!r} and {other[key]!r}"
            )


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Names of folders, not where they lie on this machine."""
    names = {task: Path(source).name for task, source in settings["task_data"].items()}
    told = {**settings, "data": Path(settings["data"]).name, "task_data": names}
    del told["longer"]
    return told


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
