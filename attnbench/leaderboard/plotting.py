"""From standings and records to plots, several at a time in processes of their own."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from attnbench.cli.text import printable
from attnbench.leaderboard.agreement import agreements
from attnbench.leaderboard.drawing import Plot, png, svg, svg_for_pages
from attnbench.leaderboard.entries import Entry, grouped, mean_roc
from attnbench.leaderboard.standings import CONTROL, Contest, Entrant, Standing, Standings
from attnbench.leaderboard.track_plots import (
    Bargain,
    Scored,
    contest_plots,
    pareto_plot,
)

_MOST_DEVICES = 6
Draw = Callable[[], list[Plot]]
# A plot to every track, and to every contest of one.
Subject = tuple[str, Contest | None]


@dataclass(frozen=True)
class Picture:
    """A plot as it is published; see `attnbench.leaderboard.drawing.Plot`."""

    name: str
    title: str
    description: str
    svg: bytes


def pictures_for_pages(
    entries: Sequence[Entry], tracks: Mapping[str, Standings], pool: Executor
) -> dict[Subject, Future[list[Picture]]]:
    """The plots of every track and contest, drawn meanwhile."""
    return {
        subject: pool.submit(_pictures, draw)
        for subject, draw in _subjects(entries, tracks).items()
    }


def plot_files(
    entries: Sequence[Entry], tracks: Mapping[str, Standings]
) -> Iterator[tuple[str, bytes]]:
    """All plots as SVG and PNG, by the files' names."""
    with ProcessPoolExecutor() as pool:
        for files in pool.map(_files, _subjects(entries, tracks).values()):
            yield from files


def labels_of(rows: Sequence[Standing]) -> list[str]:
    """A name for each, with as much of version and device as tells it from the others."""
    versions, devices = defaultdict(set), defaultdict(set)
    for row in rows:
        versions[row.entrant.submission].add(row.entrant.submission_sha256)
        devices[row.entrant.submission].add(row.entrant.device)
    labels = []
    for row in rows:
        label = row.entrant.submission
        if len(versions[label]) > 1:
            label += f" [{row.entrant.submission_sha256[:6]}]"
        if len(devices[row.entrant.submission]) > 1:
            label += f" ({row.entrant.device[:20]})"
        labels.append(printable(label))
    return labels


def _pictures(draw: Draw) -> list[Picture]:
    return [
        Picture(plot.name, plot.title, plot.description, svg_for_pages(plot)) for plot in draw()
    ]


def _files(draw: Draw) -> list[tuple[str, bytes]]:
    return [
        (f"{plot.name}.{suffix}", write(plot))
        for plot in draw()
        for suffix, write in (("svg", svg), ("png", png))
    ]


def _subjects(entries: Sequence[Entry], tracks: Mapping[str, Standings]) -> dict[Subject, Draw]:
    """What there is to draw; without anything where no method has figures."""
    found: dict[Subject, Draw] = {}
    by_track = grouped(entries)
    for track, standing in tracks.items():
        if bargains := list(_bargains(track, standing)):
            found[track, None] = partial(_draw_all, bargains)
        for contest in standing.contests:
            draw = _contest(track, contest, standing, by_track[track][contest])
            if draw is not None:
                found[track, contest] = draw
    return found


def _draw_all(draws: Sequence[Callable[[], Plot]]) -> list[Plot]:
    return [draw() for draw in draws]


def _bargains(track: str, found: Standings) -> Iterator[Callable[[], Plot]]:
    """d' against parameters, and against seconds on each of the devices with most methods."""
    rows = [row for row in found.rows if row.d_prime is not None and row.costs is not None]
    if not rows:
        return
    name, title = f"{track}-pareto-parameters", f"d′ against parameters, {track}"
    unit = "parameters added and changed (the largest of its tasks)"
    costs = [float(row.costs.parameters[1]) for row in rows if row.costs]
    number = len(found.contests)
    methods = _methods(rows, costs, number)
    yield partial(pareto_plot, name, title, methods, unit, number, counted=True)
    timed = [
        (row, row.costs.device, seconds)
        for row in rows
        if row.costs is not None and (seconds := row.costs.times.adaptation) is not None
    ]
    devices = Counter(device for _, device, _ in timed)
    for index, (device, _) in enumerate(devices.most_common(_MOST_DEVICES)):
        own = {row.entrant: seconds for row, its, seconds in timed if its == device}
        name, title = f"{track}-pareto-time-{index}", f"d′ against adaptation time, {track}"
        unit = f"adaptation time in seconds (median), on {printable(device, 60)}"
        its_rows = [row for row in rows if row.entrant in own]
        methods = _methods(its_rows, [own[row.entrant] for row in its_rows], number)
        yield partial(pareto_plot, name, title, methods, unit, number, counted=False)


def _methods(rows: Sequence[Standing], costs: Sequence[float], contests: int) -> list[Bargain]:
    return [
        Bargain(label, row.d_prime or 0.0, cost, len(row.intervals) == contests)
        for label, row, cost in zip(labels_of(rows), rows, costs, strict=True)
    ]


def _contest(
    track: str, contest: Contest, found: Standings, entries: Mapping[Entrant, Sequence[Entry]]
) -> Draw | None:
    rows = sorted(
        (row for row in found.rows if contest in row.intervals),
        key=lambda row: -(row.cells[contest].d_prime or 0.0),
    )
    if not rows:
        return None
    labels = labels_of(rows)
    methods = [
        _scored(label, row, contest, entries[row.entrant])
        for label, row in zip(labels, rows, strict=True)
    ]
    named = dict(zip((row.entrant for row in rows), labels, strict=True))
    consistency = {
        each.trials: ([named[who] for who in each.entrants], each.found.kappa)
        for each in agreements(contest, found, entries)
    }
    version = f"{contest.task_sha256}{contest.backbone_sha256}{contest.untrained}"
    name = f"{track}-{contest.task}-{contest.backbone.replace('/', '-')}"
    name += f"-{hashlib.sha256(version.encode()).hexdigest()[:8]}"
    about = f"{contest.task}, {contest.backbone}"
    return partial(contest_plots, name, about, methods, consistency)


def _scored(label: str, row: Standing, contest: Contest, entries: Sequence[Entry]) -> Scored:
    cell = row.cells[contest]
    measures = [each.measures for each in cell.episodes if each.measures is not None]
    return Scored(
        label=label,
        control=row.entrant.submission in (CONTROL, "none"),
        d_prime=cell.d_prime or 0.0,
        interval=row.intervals[contest],
        threshold=(
            float(np.mean([each.false_alarms / each.negatives for each in measures])),
            float(np.mean([each.hits / each.positives for each in measures])),
        ),
        curve=mean_roc(entries),
    )
