"""Plots of standings and records, drawn by several processes at once."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from attnbench.leaderboard.agreement import agreements
from attnbench.leaderboard.comparable import CONTROL
from attnbench.leaderboard.entries import Entry, group_entries, mean_roc
from attnbench.leaderboard.pareto_plot import ParetoPoint, pareto_plot
from attnbench.leaderboard.plot_style import Plot, png, svg, svg_for_pages
from attnbench.leaderboard.pooling import Method, Setting
from attnbench.leaderboard.setting_plots import MethodDetection, setting_plots
from attnbench.leaderboard.standings import Standings, StandingsRow
from attnbench.text import printable

_MOST_DEVICES = 6
# Draws plots from a few numbers. It is pickled, so that another process can call it.
PlotFunction = Callable[[], list[Plot]]
# What a group of plots shows: standings as a whole, by name (None), or a track's setting.
PlotSubject = tuple[str, Setting | None]


@dataclass(frozen=True)
class RenderedPlot:
    """A plot as the site shows it; see `attnbench.leaderboard.plot_style.Plot`."""

    name: str
    title: str
    description: str
    svg: bytes


def render_for_pages(
    entries: Sequence[Entry], boards: Sequence[Standings], pool: Executor
) -> dict[PlotSubject, Future[list[RenderedPlot]]]:
    """Start drawing the plots of every track and setting in a pool of processes."""
    return {
        subject: pool.submit(_render, draw)
        for subject, draw in _plot_functions(entries, boards).items()
    }


def plot_files(
    entries: Sequence[Entry], boards: Sequence[Standings]
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every plot's SVG and PNG file."""
    with ProcessPoolExecutor() as pool:
        for files in pool.map(_files, _plot_functions(entries, boards).values()):
            yield from files


def labels_of(rows: Sequence[StandingsRow]) -> list[str]:
    """Return a label for each row: the submission, with its version and device where needed.

    The version is added if several versions of a submission are among the rows, the device if it is
    there on several devices.
    """
    versions, devices = defaultdict(set), defaultdict(set)
    for row in rows:
        versions[row.method.submission].add(row.method.submission_sha256)
        devices[row.method.submission].add(row.method.device)
    labels = []
    for row in rows:
        label = row.method.submission
        if len(versions[label]) > 1:
            label += f" [{row.method.submission_sha256[:6]}]"
        if len(devices[row.method.submission]) > 1:
            label += f" ({row.method.device[:20]})"
        labels.append(printable(label))
    return labels


def _render(draw: PlotFunction) -> list[RenderedPlot]:
    return [
        RenderedPlot(plot.name, plot.title, plot.description, svg_for_pages(plot))
        for plot in draw()
    ]


def _files(draw: PlotFunction) -> list[tuple[str, bytes]]:
    return [
        (f"{plot.name}.{suffix}", write(plot))
        for plot in draw()
        for suffix, write in (("svg", svg), ("png", png))
    ]


def _plot_functions(
    entries: Sequence[Entry], boards: Sequence[Standings]
) -> dict[PlotSubject, PlotFunction]:
    """Return what draws each subject's plots, for subjects in which a method has a d'."""
    functions: dict[PlotSubject, PlotFunction] = {}
    by_track = group_entries(entries)
    for standings in boards:
        track = standings.track
        if pareto_plots := list(_pareto_plots(standings)):
            functions[standings.name, None] = partial(_draw_all, pareto_plots)
        for setting in standings.settings:
            draw = _setting_plots(track, setting, standings, by_track[track][setting])
            if draw is not None:
                functions[track, setting] = draw
    return functions


def _draw_all(functions: Sequence[Callable[[], Plot]]) -> list[Plot]:
    return [draw() for draw in functions]


def _pareto_plots(standings: Standings) -> Iterator[Callable[[], Plot]]:
    """Plot d_a against parameters, and against seconds on the devices with the most methods."""
    rows = [
        row for row in standings.rows if row.placement.d_a is not None and row.costs is not None
    ]
    if not rows:
        return
    prefix = f"{standings.track}{'' if standings.has_labels else '-new'}-pareto"
    unit = "parameters added and changed (largest count over tasks)"
    points = _pareto_points(rows, [float(row.costs.parameters[1]) for row in rows if row.costs])
    title = f"d_a against parameters, {standings.name}"
    yield partial(pareto_plot, f"{prefix}-parameters", title, points, unit, counted=True)
    timed = [
        (row, row.costs.device, seconds)
        for row in rows
        if row.costs is not None and (seconds := row.costs.times.adaptation) is not None
    ]
    devices = Counter(device for _, device, _ in timed)
    for index, (device, _) in enumerate(devices.most_common(_MOST_DEVICES)):
        on_device = [(row, seconds) for row, of_row, seconds in timed if of_row == device]
        unit = f"median adaptation time in seconds, on {printable(device, 60)}"
        points = _pareto_points([row for row, _ in on_device], [time for _, time in on_device])
        title = f"d_a against adaptation time, {standings.name}"
        yield partial(pareto_plot, f"{prefix}-time-{index}", title, points, unit, counted=False)


def _pareto_points(rows: Sequence[StandingsRow], costs: Sequence[float]) -> list[ParetoPoint]:
    return [
        ParetoPoint(label, row.placement.d_a.value, cost)
        for label, row, cost in zip(labels_of(rows), rows, costs, strict=True)
        if row.placement.d_a is not None
    ]


def _setting_plots(
    track: str, setting: Setting, standings: Standings, entries: Mapping[Method, Sequence[Entry]]
) -> PlotFunction | None:
    """Return what draws the plots of one setting; None if no method has a d' in it."""
    rows = sorted(
        (row for row in standings.rows if setting in row.d_prime_intervals),
        key=lambda row: -(row.results[setting].d_prime or 0.0),
    )
    if not rows:
        return None
    labels = labels_of(rows)
    methods = [
        _detection(label, row, setting, entries[row.method])
        for label, row in zip(labels, rows, strict=True)
    ]
    label_of = dict(zip((row.method for row in rows), labels, strict=True))
    kappas = {
        agreement.trials: (
            [label_of[method] for method in agreement.methods],
            agreement.matrix.kappa,
        )
        for agreement in agreements(setting, standings, entries)
    }
    version = f"{setting.task_sha256}{setting.backbone_sha256}{setting.untrained}"
    name = f"{track}-{setting.task}-{setting.backbone.replace('/', '-')}"
    name += f"-{hashlib.sha256(version.encode()).hexdigest()[:8]}"
    about = f"{setting.task}, {setting.backbone}"
    return partial(setting_plots, name, about, methods, kappas)


def _detection(
    label: str, row: StandingsRow, setting: Setting, entries: Sequence[Entry]
) -> MethodDetection:
    result = row.results[setting]
    measures = [e.measures for e in result.episodes if e.measures is not None]
    by_target: dict[str, list[float]] = defaultdict(list)
    for episode in result.episodes:
        if episode.measures is not None:
            by_target[episode.target].append(episode.measures.d_prime)
    return MethodDetection(
        label=label,
        control=row.method.submission in (CONTROL, "none"),
        d_prime=result.d_prime or 0.0,
        interval=row.d_prime_intervals[setting],
        of_targets=tuple(float(np.mean(values)) for values in by_target.values()),
        operating_point=(
            float(np.mean([m.false_alarms / m.negatives for m in measures])),
            float(np.mean([m.hits / m.positives for m in measures])),
        ),
        curve=mean_roc(entries),
    )
