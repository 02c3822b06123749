"""The plots of a track: what is gained for which cost, d' and ROC of a task, who errs alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnbench.leaderboard.drawing import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Plot,
    name_points,
    new_figure,
    png,
    styled,
    svg,
)
from attnbench.leaderboard.entries import (
    FALSE_ALARM_RATES,
    Entry,
    Floats,
    decisions,
    grouped,
    mean_roc,
)
from attnbench.leaderboard.standings import CONTROL, Contest, Entrant, Standing, Standings
from attnbench.statistics.comparison import pareto_margins
from attnbench.statistics.consistency import kappas

# As many as can be read in one picture; tables have them all.
MOST_ROWS, MOST_CURVES = 40, 5
_HIGHLIGHTED = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, INK)
_DASHES = ("solid", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (1, 1)))


def track_plots(track: str, found: Standings) -> list[Plot]:
    """d' against what it costs: parameters, and seconds on each device."""
    with styled():
        return list(_pareto_plots(track, found))


def plot_files(
    entries: Sequence[Entry], tracks: Mapping[str, Standings]
) -> Iterator[tuple[str, bytes]]:
    """All plots as SVG and PNG, by the files' names."""
    for track, contests in grouped(entries).items():
        plots = track_plots(track, tracks[track])
        for contest, own in sorted(contests.items()):
            plots += contest_plots(track, contest, tracks[track], own)
        for plot in plots:
            yield f"{plot.name}.svg", svg(plot)
            yield f"{plot.name}.png", png(plot)


def contest_plots(
    track: str, contest: Contest, found: Standings, entries: Mapping[Entrant, Sequence[Entry]]
) -> list[Plot]:
    """d' with intervals, ROC curves and error consistency of one task on one backbone.

    Args:
        entries: the contest's records by entrant.
    """
    backbone = contest.backbone.replace("/", "-")
    version = f"{contest.task_sha256}{contest.backbone_sha256}{contest.untrained}"
    digest = hashlib.sha256(version.encode()).hexdigest()[:8]
    name = f"{track}-{contest.task}-{backbone}-{digest}"
    rows = [
        row for row in found.rows if contest in row.cells and row.cells[contest].d_prime is not None
    ]
    if not rows:
        return []
    rows.sort(key=lambda row: -(row.cells[contest].d_prime or 0.0))
    about = f"{contest.task}, {contest.backbone}"
    with styled():
        plots = [_d_primes(f"{name}-d-prime", about, contest, rows)]
        curves = {row.entrant: mean_roc(entries[row.entrant]) for row in rows}
        drawn = [(row, curve) for row in rows if (curve := curves[row.entrant]) is not None]
        if drawn:
            plots.append(_rocs(f"{name}-roc", about, contest, drawn))
        if len(drawn) > 1:
            shown = [row for row, _ in drawn[:MOST_ROWS]]
            records = [entries[row.entrant] for row in shown]
            for present in (True, False):
                side = "present" if present else "absent"
                matrix = kappas(*decisions(records, present))
                plots.append(_consistency(f"{name}-errors-{side}", about, side, shown, matrix))
    return plots


def labels_of(rows: Sequence[Standing]) -> list[str]:
    """A name for each, with as much of version and device as tells it from the others."""
    names = [row.entrant.submission for row in rows]
    devices = {row.entrant.device for row in rows}
    labels = []
    for row in rows:
        same = [each.entrant for each in rows if each.entrant.submission == row.entrant.submission]
        label = row.entrant.submission
        if len({each.submission_sha256 for each in same}) > 1:
            label += f" [{row.entrant.submission_sha256[:6]}]"
        if len(devices) > 1 and names.count(row.entrant.submission) > 1:
            label += f" ({row.entrant.device[:12]}…)"
        labels.append(label)
    return labels


def _pareto_plots(track: str, found: Standings) -> Iterator[Plot]:
    rows = [row for row in found.rows if row.d_prime is not None and row.costs is not None]
    if not rows:
        return
    yield _pareto(
        f"{track}-pareto-parameters",
        f"d′ against parameters, {track}",
        rows,
        [float(row.costs.parameters[1]) for row in rows if row.costs],
        "parameters added and changed (the largest of its tasks)",
        len(found.contests),
    )
    for number, device in enumerate(sorted({row.entrant.device for row in rows})):
        own = [row for row in rows if row.entrant.device == device]
        yield _pareto(
            f"{track}-pareto-time-{number}",
            f"d′ against adaptation time, {track}",
            own,
            [row.costs.seconds for row in own if row.costs],
            f"adaptation time in seconds (median), on {device[:60]}",
            len(found.contests),
        )


def _pareto(
    name: str, title: str, rows: Sequence[Standing], costs: list[float], unit: str, contests: int
) -> Plot:
    benefit = np.array([row.d_prime or 0.0 for row in rows])
    whole = np.array(
        [sum(cell.d_prime is not None for cell in row.cells.values()) == contests for row in rows]
    )
    margins = np.full(len(rows), -np.inf)
    if whole.any():
        margins[whole] = pareto_margins(benefit[whole], np.array(costs)[whole, None])
    front = [int(n) for n in np.argsort(costs, kind="stable") if margins[n] > 0]
    figure = new_figure(9, 6.5)
    axes = figure.add_axes((0.08, 0.1, 0.89, 0.82))
    if min(costs) < 1e-6 or "parameters" in unit:
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(-0.4, max(10.0, max(costs)) * 3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    else:
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, max(costs) * 3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    spread = max(0.5, float(np.ptp(benefit)))
    axes.set_ylim(benefit.min() - 0.08 * spread, benefit.max() + 0.1 * spread)
    axes.grid(True, which="major")
    axes.set_xlabel(unit)
    axes.set_ylabel("d′, mean over tasks")
    x, y = np.array(costs), benefit
    if front:
        axes.plot(x[front], y[front], color=VERMILION, linewidth=1.2, drawstyle="steps-post", zorder=2)
    groups = [
        (margins > 0, VERMILION, VERMILION, "on the Pareto front: none is better for less"),
        (whole & ~(margins > 0), BLUE, BLUE, "others"),
        (~whole, "none", BLUE, f"mean over fewer than the {contests} tasks: not comparable"),
    ]
    for group, face, edge, label in groups:
        if group.any():
            axes.scatter(x[group], y[group], 30, face, edgecolors=edge, label=label, zorder=3)
    figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=3, fontsize=9)
    order = sorted(range(len(rows)), key=lambda n: (not margins[n] > 0, -benefit[n]))
    labels = labels_of(rows)
    name_points(axes, [(x[n], y[n]) for n in order], [labels[n] for n in order], 8)
    on_front = ", ".join(labels[n] for n in front) or "none"
    return Plot(name, title, f"{title}: {len(rows)} methods; on the front: {on_front}.", figure)


def _d_primes(name: str, about: str, contest: Contest, rows: Sequence[Standing]) -> Plot:
    rows = rows[:MOST_ROWS]
    figure, axes = _with_rows(labels_of(rows), 1.2)
    found = np.array([row.cells[contest].d_prime or 0.0 for row in rows])
    ends = np.array([row.intervals[contest] for row in rows])
    apart = np.maximum(0, np.stack([found - ends[:, 0], ends[:, 1] - found]))
    axes.errorbar(found, range(len(rows)), xerr=apart, fmt="o", color=BLUE, capsize=3, markersize=5)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("d′, mean over targets, with its 95 % interval (0 is chance)")
    axes.grid(True, axis="x")
    title = f"d′ on {about}"
    best, worst = labels_of(rows)[0], labels_of(rows)[-1]
    description = f"{title}: from {worst} ({found[-1]:.2f}) to {best} ({found[0]:.2f})."
    return Plot(name, title, description, figure)


def _with_rows(labels: Sequence[str], extra: float) -> tuple[Figure, Axes]:
    height = extra + 0.24 * len(labels)
    left = min(0.45, 0.03 + 0.0098 * max(map(len, labels)))
    figure = new_figure(8, height)
    axes = figure.add_axes((left, 0.75 / height, 0.96 - left, 1 - 0.9 / height))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    return figure, axes


def _rocs(
    name: str, about: str, contest: Contest, drawn: Sequence[tuple[Standing, Floats]]
) -> Plot:
    figure = new_figure(7, 6)
    axes = figure.add_axes((0.11, 0.1, 0.86, 0.86))
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
    labels = labels_of([row for row, _ in drawn])
    controls = [n for n, (row, _) in enumerate(drawn) if row.entrant.submission in (CONTROL, "none")]
    shown = sorted({*range(min(MOST_CURVES, len(drawn))), *controls[:2]})
    for number, (_, curve) in enumerate(drawn[: MOST_ROWS]):
        if number not in shown:
            axes.plot(FALSE_ALARM_RATES, curve, color=FAINT, linewidth=0.7, zorder=1)
    for place, number in enumerate(shown):
        row, curve = drawn[number]
        colour = _HIGHLIGHTED[place % len(_HIGHLIGHTED)]
        dashes = _DASHES[place % len(_DASHES)]
        axes.plot(
            FALSE_ALARM_RATES, curve, color=colour, linestyle=dashes, label=labels[number], zorder=3
        )
        measures = [each.measures for each in row.cells[contest].episodes if each.measures]
        false_alarms = np.mean([each.false_alarms / each.negatives for each in measures])
        hits = np.mean([each.hits / each.positives for each in measures])
        axes.plot(false_alarms, hits, "o", color=colour, markersize=5, zorder=4)
    if len(drawn) > len(shown):
        axes.plot([], [], color=FAINT, linewidth=0.7, label="others")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.grid(True)
    axes.set_xlabel("false-alarm rate (share of absent trials called present)")
    axes.set_ylabel("hit rate (share of present trials called present)")
    axes.legend(loc="lower right", fontsize=9)
    title = f"ROC on {about}"
    description = (
        f"{title}: the mean over targets of the {MOST_CURVES} methods of largest d′ and of the "
        "controls; the dot is the detector's own threshold, the dotted line chance."
    )
    return Plot(name, title, description, figure)


def _consistency(
    name: str, about: str, side: str, rows: Sequence[Standing], matrix: Floats
) -> Plot:
    labels = labels_of(rows)
    few = len(rows) <= 12
    cell, margin = (0.55 if few else 0.25), 0.4 + 0.085 * max(map(len, labels))
    extent = max(2.5, cell * len(rows))
    width, height = margin + extent + 1.1, extent + margin + 0.2
    figure = new_figure(width, height)
    axes = figure.add_axes((margin / width, margin / height, extent / width, extent / height))
    image = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    undefined = np.argwhere(np.isnan(matrix))
    axes.plot(undefined[:, 1], undefined[:, 0], "x", color=INK, markersize=4, linestyle="none")
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(labelsize=9 if few else 8, length=0)
    axes.spines[:].set_visible(False)
    if few:
        for (i, j), value in np.ndenumerate(matrix):
            if not np.isnan(value):
                colour = "#ffffff" if value < 0.5 else "#000000"
                axes.text(j, i, f"{value:.2f}", color=colour, fontsize=8, ha="center", va="center")
    bar = figure.add_axes((1 - 0.85 / width, margin / height, 0.15 / width, extent / height))
    figure.colorbar(image, cax=bar, extend="min").set_label("Cohen's κ")
    others = matrix[~np.eye(len(rows), dtype=bool)]
    known = others[~np.isnan(others)]
    said = f"κ from {known.min():.2f} to {known.max():.2f}" if len(known) else "κ is not defined"
    title = f"Error consistency on {about}, target {side}"
    description = (
        f"{title}: {said} between two methods; × where it is not defined "
        f"({len(undefined)} of {matrix.size} cells)."
    )
    return Plot(name, title, description, figure)
