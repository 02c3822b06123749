"""What the page that compares two methods needs: every method's d_a by target, and all differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnbench.leaderboard.comparable import tabulate_episodes
from attnbench.leaderboard.plot_files import labels_of
from attnbench.leaderboard.pooling import Method
from attnbench.leaderboard.standings import Standings
from attnbench.statistics.intervals import Floats
from attnbench.statistics.ranking import mean_of_known, pair_differences


def pair_data(standings: Standings, pages: Mapping[Method, str]) -> dict[str, Any] | None:
    """Return the differences of all pairs of compared methods; None with fewer than two.

    Args:
        standings: the standings.
        pages: the path of each method's page.

    Returns:
        Plain values for JSON. `methods` are m names with their pages. `tasks` has for each compared
        setting its name, its targets, and d_a `[m, targets]`, the mean over seeds. The differences are
        first - second, for the pairs in the order of `numpy.triu_indices(m, 1)`: `joint` over all
        tasks, and in each task `differences`. Each is a value and the ends of its 95 % interval, or the
        value alone where a single target says nothing about others.
    """
    rows = [row for row in standings.rows if not row.placement.lacking]
    if len(rows) < 2:
        return None
    table = tabulate_episodes([row.results for row in rows], standings.compared)
    targets = sorted(
        {
            episode.target
            for row in rows
            for setting in standings.compared
            for episode in row.results[setting].episodes
            if episode.measures is not None
        }
    )
    tasks = []
    for number, setting in enumerate(standings.compared):
        of_task = table.d_a[:, number : number + 1]
        (has,) = np.nonzero(~np.isnan(of_task).all(axis=(0, 1, 3)))
        means = mean_of_known(of_task[:, 0, has])
        tasks.append(
            {
                "name": f"{setting.task}, {setting.backbone}",
                "targets": [targets[index] for index in has.tolist()],
                "d_a": [[_rounded(value) for value in of_method] for of_method in means.tolist()],
                "differences": _differences(of_task),
            }
        )
    return {
        "name": standings.name,
        "methods": [
            {"name": label, "page": pages[row.method]}
            for label, row in zip(labels_of(rows), rows, strict=True)
        ],
        "tasks": tasks,
        "joint": _differences(table.d_a),
    }


def _differences(values: Floats) -> list[list[float]]:
    found = pair_differences(values)
    ends = found.intervals().tolist()
    return [
        [round(number, 4) for number in (value, low, high) if not np.isnan(number)]
        for value, (low, high) in zip(found.estimates.tolist(), ends, strict=True)
    ]


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
