"""The content of the site's method pages: results, ROC curves, episodes, source and commands."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.entries import Entry, GroupedEntries, mean_roc
from attnbench.leaderboard.pooling import Method
from attnbench.leaderboard.score_summary import FALSE_ALARM_RATES
from attnbench.leaderboard.site.error_pictures import Sheet, SheetDrawer
from attnbench.leaderboard.site.rendering import source_text
from attnbench.leaderboard.site.result_rows import ResultRow, method_path
from attnbench.leaderboard.standings import Standings, StandingsRow
from attnbench.records.record import EpisodeResult
from attnbench.records.surest_errors import ScoredImage, surest_errors
from attnbench.resources import submissions_folder
from attnbench.submission import MANIFEST, SOURCE, Submission, load_submission
from attnbench.tasks import TaskDefinition

_SURE_ERRORS = 6
_SHOWN_SUFFIXES = (".py", ".toml", ".md", ".txt")


@dataclass(frozen=True)
class SettingDetail:
    """A method in one setting, target by target.

    Attributes:
        row: the pooled result.
        episodes: each with its seed.
        curve: the ROC curve as `x,y` points of a 100 x 100 SVG with y downwards; empty without
            scores.
        operating_point: the detector's own threshold in the same coordinates.
    """

    row: ResultRow
    episodes: tuple[tuple[int, EpisodeResult], ...]
    curve: str
    operating_point: tuple[float, float] | None

    @property
    def contended(self) -> int:
        """The number of episodes that shared the processor with others."""
        return sum(e.cost is not None and e.cost.contended for _, e in self.episodes)


@dataclass(frozen=True)
class SurestErrors:
    """The test images of a setting that a method got wrong with the most extreme scores.

    Attributes:
        row: the setting's result.
        kinds: "misses" and "false alarms", each with the names of its images, their targets and
            scores, and their pictures where these may be shown.
    """

    row: ResultRow
    kinds: tuple[tuple[str, tuple[tuple[str, ScoredImage], ...], Sheet | None], ...]


@dataclass(frozen=True)
class MethodPage:
    """The page of one version of a submission, on all tracks and devices.

    Attributes:
        path: relative to the site's root.
        name, sha256: of the submission.
        title: of its first record.
        submission: its source, or None if that is not available in this version.
        sources: name and text of the files that can be shown.
        details: one per setting and device.
        errors: its surest errors in the first setting whose pictures may be shown, or else in the
            first with scores; None without scores.
        standings: the name and its row of each of the standings that it is in.
        entries: its records.
        commands: shell commands that run the same episodes.
    """

    path: str
    name: str
    sha256: str
    title: str
    submission: Submission | None
    sources: tuple[tuple[str, str], ...]
    details: tuple[SettingDetail, ...]
    errors: SurestErrors | None
    standings: tuple[tuple[str, StandingsRow], ...]
    entries: tuple[Entry, ...]
    commands: tuple[str, ...]

    @property
    def has_own(self) -> bool:
        """Whether some of its records are the user's own, and not published."""
        return any(entry.is_own for entry in self.entries)


def method_pages(
    rows: Sequence[ResultRow],
    boards: Sequence[Standings],
    entries: GroupedEntries,
    tasks: Mapping[str, TaskDefinition],
    drawer: SheetDrawer,
) -> Iterator[MethodPage]:
    """Yield a page for every version of a submission, ordered by path."""
    by_page: dict[str, list[ResultRow]] = defaultdict(list)
    for row in rows:
        by_page[row.page].append(row)
    standings: dict[str, list[tuple[str, StandingsRow]]] = defaultdict(list)
    for board in boards:
        for standings_row in board.rows:
            standings[method_path(standings_row.method)].append((board.name, standings_row))
    for path, page_rows in sorted(by_page.items()):
        method = page_rows[0].method
        by_row = [entries[row.track][row.setting][row.method] for row in page_rows]
        page_entries = tuple(entry for row_entries in by_row for entry in row_entries)
        submission = _find_source(method)
        yield MethodPage(
            path=path,
            name=method.submission,
            sha256=method.submission_sha256,
            title=page_entries[0].record.title,
            submission=submission,
            sources=() if submission is None else tuple(_sources(submission)),
            details=tuple(
                _detail(row, row_entries)
                for row, row_entries in zip(page_rows, by_row, strict=True)
            ),
            errors=_surest_errors(page_rows, by_row, drawer, tasks),
            standings=tuple(standings[path]),
            entries=page_entries,
            commands=tuple(_commands(page_rows, tasks)),
        )


def _surest_errors(
    rows: Sequence[ResultRow],
    entries: Sequence[Sequence[Entry]],
    drawer: SheetDrawer,
    tasks: Mapping[str, TaskDefinition],
) -> SurestErrors | None:
    """Return a method's surest errors in one of its settings; see `MethodPage.errors`."""
    without_pictures = None
    for row, (entry, *_) in zip(rows, entries, strict=True):
        if entry.scores is None:
            continue
        found = surest_errors(entry.folder / entry.path, entry.record, _SURE_ERRORS)
        kinds = []
        for kind, sign in (("misses", 1), ("false alarms", -1)):
            images = [
                (errors.target, image)
                for errors in found
                for image in (errors.misses if sign > 0 else errors.false_alarms)
            ]
            images = sorted(images, key=lambda pair: sign * pair[1].score)[:_SURE_ERRORS]
            names = [image.name for _, image in images]
            task = tasks.get(row.setting.task)
            sheet = drawer.draw(task, row.setting, row.track, kind.replace(" ", "-"), names)
            kinds.append((kind, tuple(images), sheet))
        errors = SurestErrors(row, tuple(kinds))
        if any(sheet for _, _, sheet in kinds):
            return errors
        without_pictures = without_pictures or errors
    return without_pictures


def _find_source(method: Method) -> Submission | None:
    """Return the very source that made a method's records, if it is available."""
    for folder in (Path("submissions"), submissions_folder()):
        if (folder / method.submission / MANIFEST).is_file():
            try:
                submission = load_submission(folder / method.submission)
            except AttnbenchError:
                continue
            if submission.sha256 == method.submission_sha256:
                return submission
    return None


def _sources(submission: Submission) -> Iterator[tuple[str, str]]:
    first = [name for name in (MANIFEST, SOURCE) if name in submission.files]
    for name in [*first, *(name for name in submission.files if name not in first)]:
        if name.endswith(_SHOWN_SUFFIXES):
            yield name, source_text(submission.files[name])


def _detail(row: ResultRow, entries: Sequence[Entry]) -> SettingDetail:
    episodes = tuple(
        (entry.record.identity.seed, episode)
        for entry in sorted(entries, key=lambda entry: entry.record.identity.seed)
        for episode in entry.record.episodes
    )
    curve = mean_roc(entries) if row.d_prime is not None else None
    if curve is None:
        return SettingDetail(row, episodes, "", None)
    measures = [episode.measures for _, episode in episodes if episode.measures is not None]
    operating_point = (
        round(100 * float(np.mean([m.false_alarms / m.negatives for m in measures])), 1),
        round(100 - 100 * float(np.mean([m.hits / m.positives for m in measures])), 1),
    )
    points = zip(FALSE_ALARM_RATES, curve.hit_rates, strict=True)
    text = " ".join(f"{100 * x:.4g},{100 - 100 * y:.4g}" for x, y in points)
    return SettingDetail(row, episodes, text, operating_point)


def _commands(rows: Sequence[ResultRow], task_names: Collection[str]) -> Iterator[str]:
    """Yield the commands that run the episodes of these rows, for tasks that are known here."""
    for row in rows:
        task = row.setting.task
        if task in task_names:
            words = ["attnbench", "evaluate", row.method.submission]
            words += ["--track", row.track, "--task", task]
            words += ["--backbone", row.setting.backbone, "--seeds", str(row.seeds)]
            words += ["--untrained"] if row.setting.untrained else []
            yield shlex.join(words)
