"""What stands on the pages: rows, methods and tasks, from standings and records."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.entries import FALSE_ALARM_RATES, Entry, Grouped, mean_roc
from attnbench.leaderboard.fronts import Bid, Lead, front
from attnbench.leaderboard.site.rendering import file_name, source_text
from attnbench.leaderboard.standings import (
    Cell,
    Contest,
    Entrant,
    Interval,
    Standing,
    Standings,
)
from attnbench.records.record import EpisodeResult, Status
from attnbench.resources import submissions_folder
from attnbench.submission import MANIFEST, SOURCE, Submission, load_submission
from attnbench.tasks import TaskDefinition, list_tasks, load_task

_SHOWN_FILES = (".py", ".toml", ".md", ".txt")


@dataclass(frozen=True)
class Row:
    """An entrant on one contest, its seeds pooled: means over episodes, times on `device`.

    Attributes:
        page, task_page: addresses from the site's root.
        parameters_added, parameters_changed, artefact_bytes: the largest.
    """

    entrant: Entrant
    contest: Contest
    track: str
    page: str
    task_page: str
    status: Status
    reason: str
    targets: int
    seeds: int
    d_prime: float | None
    interval: Interval | None
    criterion: float | None
    d_a: float | None
    auc: float | None
    hit_rate: float | None
    false_alarm_rate: float | None
    parameters_added: int | None
    parameters_changed: int | None
    artefact_bytes: int | None
    adaptation_seconds: float | None
    adaptation_passes: float | None
    prediction_seconds: float | None
    device: str


@dataclass(frozen=True)
class Detail:
    """An entrant on one contest, target by target.

    Attributes:
        episodes: with their seeds.
        curve: the ROC as `x,y` points of an SVG of 100 x 100, y downwards; empty without scores.
        point: the detector's own threshold there.
    """

    row: Row
    episodes: tuple[tuple[int, EpisodeResult], ...]
    curve: str
    point: tuple[float, float] | None

    @property
    def contended(self) -> int:
        """How many of its episodes ran beside others on the same processor."""
        return sum(e.cost is not None and e.cost.contended for _, e in self.episodes)


@dataclass(frozen=True)
class MethodPage:
    """One version of a submission, on all tracks and devices.

    Attributes:
        submission: as it is at hand, None where it is not, or in another version.
        sources: its files that can be shown.
        commands: which run its episodes again.
    """

    path: str
    name: str
    sha256: str
    title: str
    submission: Submission | None
    sources: tuple[tuple[str, str], ...]
    details: tuple[Detail, ...]
    standings: tuple[tuple[str, Standing], ...]
    entries: tuple[Entry, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class TaskPage:
    """One task on one track, on all its backbones.

    Attributes:
        definition: None where this attnbench does not know the task.
        fronts: who is on the Pareto front of each contest.
    """

    path: str
    name: str
    track: str
    definition: TaskDefinition | None
    contests: tuple[Contest, ...]
    rows: tuple[Row, ...]
    fronts: Mapping[Contest, tuple[Lead, ...]]


def method_path(entrant: Entrant) -> str:
    """Where a version of a submission has its page."""
    return f"methods/{file_name(entrant.submission, entrant.submission_sha256)}.html"


def task_path(track: str, contest: Contest) -> str:
    """Where a task has its page."""
    return f"tasks/{file_name(f'{track}-{contest.task}')}.html"


def rows_of(tracks: Mapping[str, Standings]) -> list[Row]:
    """A row for every entrant on every contest, as the standings have them."""
    return [
        _row(track, row, contest, cell)
        for track, found in tracks.items()
        for row in found.rows
        for contest, cell in sorted(row.cells.items())
    ]


def _row(track: str, row: Standing, contest: Contest, cell: Cell) -> Row:
    whole = cell.d_prime is not None
    measures = [e.measures for e in cell.episodes if e.measures is not None] if whole else []
    costs = [e.cost for e in cell.episodes if e.cost is not None] if whole else []
    return Row(
        entrant=row.entrant,
        contest=contest,
        track=track,
        page=method_path(row.entrant),
        task_page=task_path(track, contest),
        status=cell.status,
        reason=cell.reason,
        targets=cell.targets,
        seeds=cell.seeds,
        d_prime=cell.d_prime,
        interval=row.intervals.get(contest),
        criterion=fmean(m.criterion for m in measures) if measures else None,
        d_a=fmean(m.d_a for m in measures) if measures else None,
        auc=fmean(m.auc for m in measures) if measures else None,
        hit_rate=fmean(m.hit_rate for m in measures) if measures else None,
        false_alarm_rate=fmean(m.false_alarm_rate for m in measures) if measures else None,
        parameters_added=max((c.parameters_added for c in costs), default=None),
        parameters_changed=max((c.parameters_changed for c in costs), default=None),
        artefact_bytes=max((c.artefact_bytes for c in costs), default=None),
        adaptation_seconds=cell.times.adaptation if whole else None,
        adaptation_passes=cell.times.passes if whole else None,
        prediction_seconds=cell.times.prediction if whole else None,
        device=cell.device,
    )


def method_pages(
    rows: Sequence[Row], tracks: Mapping[str, Standings], entries: Grouped
) -> Iterator[MethodPage]:
    """A page for every version of a submission, in the order of their names."""
    by_page: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_page[row.page].append(row)
    known = list_tasks()  # looks through what is installed
    standings: dict[str, list[tuple[str, Standing]]] = defaultdict(list)
    for track, found in tracks.items():
        for standing in found.rows:
            standings[method_path(standing.entrant)].append((track, standing))
    for path, own in sorted(by_page.items()):
        entrant = own[0].entrant
        records = [entries[row.track][row.contest][row.entrant] for row in own]
        flat = tuple(entry for each in records for entry in each)
        submission = _at_hand(entrant)
        yield MethodPage(
            path=path,
            name=entrant.submission,
            sha256=entrant.submission_sha256,
            title=flat[0].record.title,
            submission=submission,
            sources=() if submission is None else tuple(_sources(submission)),
            details=tuple(_detail(row, each) for row, each in zip(own, records, strict=True)),
            standings=tuple(standings[path]),
            entries=flat,
            commands=tuple(_commands(own, known)),
        )


def _at_hand(entrant: Entrant) -> Submission | None:
    """The submission whose source gave these records, if it is here."""
    for folder in (Path("submissions"), submissions_folder()):
        if (folder / entrant.submission / MANIFEST).is_file():
            try:
                found = load_submission(folder / entrant.submission)
            except AttnbenchError:
                continue
            if found.sha256 == entrant.submission_sha256:
                return found
    return None


def _sources(submission: Submission) -> Iterator[tuple[str, str]]:
    first = [name for name in (MANIFEST, SOURCE) if name in submission.files]
    for name in [*first, *(name for name in submission.files if name not in first)]:
        if name.endswith(_SHOWN_FILES):
            yield name, source_text(submission.files[name])


def _detail(row: Row, entries: Sequence[Entry]) -> Detail:
    episodes = tuple(
        (entry.record.identity.seed, episode)
        for entry in sorted(entries, key=lambda each: each.record.identity.seed)
        for episode in entry.record.episodes
    )
    curve = mean_roc(entries) if row.d_prime is not None else None
    measures = [episode.measures for _, episode in episodes if episode.measures is not None]
    point = None
    if curve is not None:
        point = (
            round(100 * float(np.mean([m.false_alarms / m.negatives for m in measures])), 1),
            round(100 - 100 * float(np.mean([m.hits / m.positives for m in measures])), 1),
        )
    points = [] if curve is None else zip(FALSE_ALARM_RATES, curve, strict=True)
    text = " ".join(f"{100 * x:.4g},{100 - 100 * y:.4g}" for x, y in points)
    return Detail(row, episodes, text, point)


def _commands(rows: Sequence[Row], known: Collection[str]) -> Iterator[str]:
    """The lines that make these records anew, on a machine of one's own."""
    for row in rows:
        if row.contest.task in known:
            name = row.entrant.submission
            line = ["attnbench", "evaluate", name, "--track", row.track, "--task", row.contest.task]
            line += ["--backbone", row.contest.backbone, "--seeds", str(row.seeds)]
            line += ["--untrained"] if row.contest.untrained else []
            yield shlex.join(line)


def task_pages(rows: Sequence[Row]) -> Iterator[TaskPage]:
    """A page for every task of every track, in the order of the rows."""
    by_page: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_page[row.task_page].append(row)
    known = list_tasks()
    for path, own in by_page.items():
        name = own[0].contest.task
        contests = tuple(sorted({row.contest for row in own}))
        yield TaskPage(
            path=path,
            name=name,
            track=own[0].track,
            definition=load_task(name) if name in known else None,
            contests=contests,
            rows=tuple(own),
            fronts={each: front(_bids(each, own)) for each in contests},
        )


def _bids(contest: Contest, rows: Sequence[Row]) -> Iterator[Bid]:
    for row in rows:
        added, changed, passes = (
            row.parameters_added,
            row.parameters_changed,
            row.adaptation_passes,
        )
        if row.contest != contest or row.d_prime is None or passes is None:
            continue
        if added is not None and changed is not None:
            yield Bid(row.entrant, row.d_prime, added + changed, passes, row.device)
