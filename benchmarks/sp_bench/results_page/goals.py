"""What is wanted of SP, host by host, beside what came out."""

from __future__ import annotations

from collections.abc import Sequence

from sp_bench.goals import Goal, at_least
from sp_bench.report.number_format import verdict
from sp_bench.report.table import known_figures
from sp_bench.results import Row
from sp_bench.results_page.reading import DX_GAIN, EQUAL_GAIN
from sp_bench.stats import rows
from sp_bench.sweeps.collect import Evidence

Named = list[tuple[str, float]]

_TRANSFER = {
    "fine_grained_linear": "flowers, linear probe",
    "segmentation_miou": "CamVid, mIoU",
    "depth_rmse": "demo, depth RMSE",
}


def goals(hosts: Sequence[Evidence]) -> list[Goal]:
    """Every goal, with the host that is furthest from it or the count of hosts."""
    dx = [(host, row.sp) for host, row in _rows(hosts, DX_GAIN.key)]
    recognition = [
        (f"{host}, {name}", 100 * row.difference)
        for key, name in (("knn", "kNN"), ("linear", "linear"))
        for host, row in _rows(hosts, key)
    ]
    return [
        at_least(
            "pair gain, sharpness equalised, mean of dx, dy and scale: up by 0.10 R2",
            0.10,
            _change(hosts, EQUAL_GAIN.key),
            "+.3f",
        ),
        _above("pair gain of dx, sharpness equalised: above 0", dx),
        at_least(
            "jigsaw 3x3, patches put right: up by 8 points",
            8,
            _change(hosts, "jigsaw_3x3_piece", 100),
            "+.1f",
        ),
        at_least(
            "robustness, mean of 15 corruptions: not lower for any host",
            0,
            _change(hosts, "robustness", 100),
            "+.1f",
        ),
        _most("robustness: higher for most hosts", _change(hosts, "robustness")),
        at_least(
            "kNN and linear probe: not lower by more than 0.3 points", -0.3, recognition, "+.1f"
        ),
        *(
            _sure(f"{name}: surely higher for half of the hosts", _rows(hosts, key))
            for key, name in (("knn", "kNN"), ("linear", "linear probe"))
        ),
        *(
            _most(f"{name}: better for most hosts", _better(hosts, key))
            for key, name in _TRANSFER.items()
        ),
    ]


def _rows(hosts: Sequence[Evidence], key: str) -> list[tuple[str, Row]]:
    known = {figure.key: figure for figure in (EQUAL_GAIN, DX_GAIN)} | known_figures()
    if key not in known:
        return []
    made = [(str(each.settings["method"]), rows(each.runs, [known[key]])[0]) for each in hosts]
    return [(host, row) for host, row in made if row.seeds]


def _change(hosts: Sequence[Evidence], key: str, factor: float = 1) -> Named:
    return [(host, factor * row.difference) for host, row in _rows(hosts, key)]


def _better(hosts: Sequence[Evidence], key: str) -> Named:
    return [
        (host, row.difference if row.figure.higher_is_better else -row.difference)
        for host, row in _rows(hosts, key)
    ]


def _above(text: str, figures: Named) -> Goal:
    worst = min(figures, key=lambda each: each[1], default=None)
    if worst is None:
        return Goal(text, "", None)
    return Goal(text, f"{worst[1]:+.3f} ({worst[0]})", worst[1] > 0)


def _most(text: str, figures: Named) -> Goal:
    count = sum(figure > 0 for _, figure in figures)
    return _counted(text, count, len(figures), 2 * count > len(figures))


def _sure(text: str, found: Sequence[tuple[str, Row]]) -> Goal:
    if all(row.seeds == 1 for _, row in found):
        return Goal(text, "", None)  # one seed has no interval
    count = sum(verdict(row) == "better" for _, row in found)
    return _counted(text, count, len(found), 2 * count >= len(found))


def _counted(text: str, count: int, of: int, met: bool) -> Goal:
    return Goal(text, f"{count} of {of}", met) if of else Goal(text, "", None)
