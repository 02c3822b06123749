"""The tables that `compare METHOD people` prints: sensitivity, error consistency and shape bias."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.text import Text
from tabulate import tabulate

from attnbench.statistics.intervals import percentile_interval
from attnbench.text import printable
from attnbench.vocabulary import PEOPLE

if TYPE_CHECKING:
    from attnbench.commands.compare_people import SettingBesidePeople
    from attnbench.leaderboard.people import Beside, BesidePeople
    from attnbench.statistics.intervals import Interval
    from attnbench.statistics.people_consistency import MeanKappa

_NAME = 24
_NOTE = (
    "κ is Cohen's kappa with people: the mean over them, and for people over pairs of them. In "
    "parentheses is the mean of the largest that these rates allow. Intervals are 95 %, over pictures "
    'and people. In a row with =, each target has the threshold at which the detector says "present" '
    "as often as people do."
)


def print_people(settings: list[SettingBesidePeople], console: Console) -> None:
    """Print submissions beside people: two tables for each setting and presentation time."""
    for setting in settings:
        for comparison in setting.comparisons:
            console.print(Text(_title(setting, comparison), style="bold"))
            for table in _tables(setting, comparison):
                console.print(Text(table), soft_wrap=True)
                console.print()
    console.print(_NOTE)


def as_json(setting: SettingBesidePeople) -> dict[str, Any]:
    """Return the comparison as values for JSON."""
    return {
        "task": setting.task,
        "track": setting.track,
        "backbone": setting.backbone,
        "comparisons": [_comparison_as_json(setting, one) for one in setting.comparisons],
    }


def _title(setting: SettingBesidePeople, comparison: BesidePeople) -> str:
    shown = comparison.presentation_ms
    return printable(
        f"{setting.task}, {setting.track}, {setting.backbone}: {len(comparison.people)} people, "
        f"{comparison.pictures:,} pictures, {comparison.targets} targets"
        + (f", shown for {shown:g} ms" if shown is not None else ""),
        300,
    )


def _tables(setting: SettingBesidePeople, comparison: BesidePeople) -> Iterator[str]:
    people = comparison.detection
    own = (f"{people.d_prime.value:.2f}", f"{people.criterion.value:+.2f}", "–")
    bias = _bias(comparison.own)
    rows = [(PEOPLE, *own, f"{people.pooled_d_prime.value:.2f}", *bias)]
    for name, measures in setting.measures.items():
        values = (f"{measures.d_prime:.2f}", f"{measures.criterion:+.2f}", f"{measures.d_a:.2f}")
        bias = _bias(comparison.detectors[name])
        rows.append((_short(name), *values, f"{measures.pooled_d_prime:.2f}", *bias))
    headings = ("", "d′", "c", "d_a", "pooled d′", "shape bias [95 %]")[: len(rows[0])]
    yield tabulate(rows, headings, "simple", disable_numparse=True, colalign=_align(len(rows[0])))
    kappas: list[tuple[str, ...]] = [(PEOPLE, *_kappas(comparison.own))]
    for name, side in comparison.detectors.items():
        kappas += [(_short(name), *_kappas(side)), (f"{_short(name)} =", *_kappas(side.matched))]
    for one, other in combinations(comparison.detectors, 2):
        pair = comparison.detectors[one], comparison.detectors[other]
        name = f"{_short(one)} − {_short(other)}"
        kappas.append((name, *_differences(*pair)))
        kappas.append((f"{name} =", *_differences(*(side.matched for side in pair))))
    yield tabulate(
        kappas,
        ("", "κ present [95 %]", "κ absent [95 %]"),
        "simple",
        disable_numparse=True,
        colalign=("left", "left", "left"),
    )


def _align(columns: int) -> tuple[str, ...]:
    return ("left", *["right"] * 4, "left")[:columns]


def _short(name: str) -> str:
    return printable(name, _NAME)


def _bias(side: Beside) -> tuple[str, ...]:
    if side.bias is None:
        return ()
    if side.bias.bias is None:
        return ("undefined",)
    return (f"{side.bias.bias:.2f}{_interval(side.bias.interval)}",)


def _kappas(side: Beside) -> tuple[str, str]:
    return _kappa(side.present), _kappa(side.absent)


def _kappa(kappa: MeanKappa) -> str:
    if kappa.value is None or kappa.largest is None:
        return "undefined"
    return f"{kappa.value:.2f}{_interval(kappa.interval)} ({kappa.largest:.2f})"


def _differences(first: Beside, second: Beside) -> tuple[str, str]:
    """Return first - second on present and on absent trials; the replicates of both are paired."""
    return (
        _difference(first.present, second.present),
        _difference(first.absent, second.absent),
    )


def _difference(first: MeanKappa, second: MeanKappa) -> str:
    if first.value is None or second.value is None:
        return "undefined"
    differences = first.replicates - second.replicates
    interval = percentile_interval(differences[~np.isnan(differences)])
    return f"{first.value - second.value:+.2f}{_interval(interval, '+.2f')}"


def _interval(interval: Interval | None, form: str = ".2f") -> str:
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"


def _comparison_as_json(setting: SettingBesidePeople, comparison: BesidePeople) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "trials": comparison.source,
        "presentation_ms": comparison.presentation_ms,
        "people": len(comparison.people),
        "pictures": comparison.pictures,
        "targets": comparison.targets,
        "detection": asdict(comparison.detection),
        PEOPLE: _side_as_json(comparison.own),
        "submissions": {
            name: asdict(setting.measures[name])
            | _side_as_json(side)
            | {"matched": _side_as_json(side.matched)}
            for name, side in comparison.detectors.items()
        },
    }


def _side_as_json(side: Beside) -> dict[str, Any]:
    from dataclasses import asdict

    kappas = {"present": side.present, "absent": side.absent}
    return {
        f"kappa_{name}": {
            "value": kappa.value,
            "interval": kappa.interval,
            "largest": kappa.largest,
        }
        for name, kappa in kappas.items()
    } | {"shape_bias": None if side.bias is None else asdict(side.bias)}
