"""A comparison of runs that others made: ``sp-bench compare --from baseline=A sp=B``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sp_bench.checkpoints import find_checkpoint
from sp_bench.config import claim_output_dir
from sp_bench.data import load_data
from sp_bench.environment import machine, versions
from sp_bench.errors import UsageError
from sp_bench.evaluation import EvalSettings, run_evaluation
from sp_bench.report.html_report import write_report
from sp_bench.results import ARMS, BASELINE, LONGER, Results, Run
from sp_bench.stats import rows
from sp_bench.task_data import Sources
from sp_bench.tasks import find_tasks
from sp_plugin.validation import did_you_mean

RESULTS, REPORT = "results.json", "report.html"
_TOLD = "run.json"  # what sp-bench wrote of a run of its own


@dataclass(frozen=True)
class FromSettings:
    """What is asked of which checkpoints.

    Attributes:
        asked: of each backbone; its checkpoint is not used.
        checkpoints: by arm, one for each pair of runs, in the same order.
    """

    asked: EvalSettings
    checkpoints: dict[str, tuple[str, ...]]

    def plain(self) -> dict[str, Any]:
        """As it stands in JSON."""
        told = self.asked.plain()
        del told["checkpoint"], told["seed"]
        return {**told, "from": {arm: list(paths) for arm, paths in self.checkpoints.items()}}


def parse_from(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``ARM=CHECKPOINT`` as given, by arm.

    Raises:
        UsageError: an arm is not known, missing, or has more checkpoints than another.

    >>> parse_from(["baseline=a", "sp=b", "baseline=c", "sp=d"])
    {'baseline': ('a', 'c'), 'sp': ('b', 'd')}
    """
    known = (*ARMS, LONGER)
    found: dict[str, tuple[str, ...]] = {}
    for item in given:
        arm, sign, path = item.partition("=")
        if not sign or not path:
            raise UsageError(f"from: got {item!r}, takes ARM=CHECKPOINT, such as sp=runs/b")
        if arm not in known:
            raise UsageError(f"from: no arm {arm!r}; {did_you_mean(arm, known)}")
        found[arm] = (*found.get(arm, ()), path)
    for arm in ARMS:
        if arm not in found:
            raise UsageError(f"from: no {arm}=CHECKPOINT; takes one of baseline and one of sp")
    counts = {arm: len(paths) for arm, paths in found.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {arm}" for arm, count in counts.items())
        raise UsageError(f"from: got {told}; takes as many of each, in pairs")
    return found


def compare_checkpoints(settings: FromSettings, out: Path, tell: Callable[[str], None]) -> Results:
    """Ask every checkpoint the same, and write the table and the report.

    ``out`` holds an evaluation for each, ``results.json`` and ``report.html``; it goes on where it
    was stopped.

    Args:
        settings: what is asked of which checkpoints.
        out: a new or empty folder, or one of the same settings.
        tell: is told, a line at a time.

    Raises:
        UsageError, DataError, ConfigError: one line that says what the user has to mend.
    """
    asked = settings.asked
    tasks = find_tasks(asked.tasks)
    found = {
        arm: [find_checkpoint(Path(path)) for path in paths]
        for arm, paths in settings.checkpoints.items()
    }
    main = load_data(asked.data, limit=asked.limit) if asked.data else None
    sources = Sources(main, asked.task_data)
    claim_output_dir(out, settings)
    runs = []
    for seed in range(len(found[BASELINE])):
        for arm, paths in found.items():
            tell(f"{arm}: {paths[seed]}")
            own = dataclasses.replace(asked, checkpoint=str(paths[seed]), seed=seed)
            result = run_evaluation(own, out / f"seed{seed}-{arm}", tell, sources)
            runs.append(_run(arm, seed, paths[seed], result["metrics"]))
    figures = [figure for task in tasks for figure in task.metrics]
    results = Results(
        settings={**settings.plain(), "method": "checkpoints"},
        versions=versions(),
        machine=machine("32-true"),
        data=main.summary() if main else {"name": "each task its own"},
        runs=runs,
        rows=rows(runs, figures),
        longer=rows(runs, figures, LONGER) if LONGER in found else [],
    )
    results.save(out / RESULTS)
    write_report(results, None, out / REPORT)
    return results


def _run(arm: str, seed: int, path: Path, figures: Mapping[str, float]) -> Run:
    run = Run(arm=arm, seed=seed, figures=dict(figures), checkpoint=str(path.name))
    told = path.parent / _TOLD
    if not told.is_file():
        return run
    # Made by sp-bench: its curve, time and compute are known.
    made = json.loads(told.read_text())
    known = {key: made[key] for key in ("curve", "seconds", "images_seen", "flops") if key in made}
    return dataclasses.replace(run, **known)
