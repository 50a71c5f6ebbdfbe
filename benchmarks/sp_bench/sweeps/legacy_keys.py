"""Names in the JSON of benchmarks/results that have changed since it was written."""

from __future__ import annotations

from typing import Any

_SP_SETTINGS = {
    "relative": "relative_weight",
    "warmup": "warmup_fraction",
    "decay": "cooldown_fraction",
    "crops": "num_crops",
    "pairs": "num_pairs",
    "size": "crop_size",
    "area": "crop_scale",
    "ratio": "crop_ratio",
    "encoding": "target_encoding",
    "head_width": "hidden_dim",
}
# Settings that older files lack, at what they were then; a later default may be another.
_ABSENT = {"sample_fraction": 1.0}
_SOURCES = {"host": "host_views"}
_RUN = {"figures": "metrics"}
_CURVE = {"sp_skipped": "sp_skipped_fraction"}
_TASK, _NEW_TASK = "relation", "pair_interaction"  # also a suite, and the start of metric keys


def rename_legacy_keys(evidence: dict[str, Any]) -> dict[str, Any]:
    """The JSON of an `Evidence` with today's names; one that has them already is unchanged.

    >>> arms = {"sp": {"sp": {"crops": 4, "source": "host"}}}
    >>> runs = [{"arm": "sp", "figures": {"relation_gain": 0.1}}]
    >>> evidence = {"suite": "relation", "command": "x/relation.yaml", "settings": {}}
    >>> new = rename_legacy_keys({**evidence, "arms": arms, "runs": runs})
    >>> new["arms"], new["runs"]
    ({'sp': {'sp': {'num_crops': 4, 'source': 'host_views', 'sample_fraction': 1.0}}},
     [{'arm': 'sp', 'metrics': {'pair_interaction_gain': 0.1}}])
    >>> new["suite"], new["command"]
    ('pair_interaction', 'x/pair_interaction.yaml')
    """
    settings = evidence["settings"]
    if "tasks" in settings:
        settings = {**settings, "tasks": [_task(name) for name in settings["tasks"]]}
    return {
        **evidence,
        "suite": _task(evidence["suite"]),
        "command": evidence["command"].replace(f"/{_TASK}.yaml", f"/{_NEW_TASK}.yaml"),
        "settings": settings,
        "arms": {
            name: {**arm, "sp": _sp_settings(arm["sp"])} for name, arm in evidence["arms"].items()
        },
        "runs": [_run(run) for run in evidence["runs"]],
    }


def _task(name: str) -> str:
    return _NEW_TASK if name == _TASK else name


def _sp_settings(sp: dict[str, Any]) -> dict[str, Any]:
    renamed = _rename(sp, _SP_SETTINGS)
    if "source" in renamed:
        renamed["source"] = _SOURCES.get(renamed["source"], renamed["source"])
    absent = {key: value for key, value in _ABSENT.items() if renamed and key not in renamed}
    return {**renamed, **absent}


def _run(run: dict[str, Any]) -> dict[str, Any]:
    renamed = _rename(run, _RUN)
    metrics = {
        f"{_NEW_TASK}_{key.removeprefix(f'{_TASK}_')}"
        if key.startswith(f"{_TASK}_")
        else key: value
        for key, value in renamed["metrics"].items()
    }
    renamed["metrics"] = metrics
    if "curve" in renamed:
        renamed["curve"] = [_rename(entry, _CURVE) for entry in renamed["curve"]]
    return renamed


def _rename(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}
