"""People's trials of the settings of a leaderboard, and the methods of these settings beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.leaderboard.entries import Entry, group_entries
from attnbench.leaderboard.people import (
    BesidePeople,
    DetectorBesidePeople,
    ScoredImages,
    beside_people,
)
from attnbench.leaderboard.pooling import Method, Setting
from attnbench.records.trials import read_trials
from attnbench.tasks import FolderSource, HubSource, list_tasks, load_task


@dataclass(frozen=True)
class MethodsBesidePeople:
    """The methods of a setting beside people, for one time that pictures were presented.

    Attributes:
        comparison: people, and the methods by number.
        methods: the methods.
    """

    comparison: BesidePeople
    methods: tuple[Method, ...]

    @property
    def sides(self) -> Iterator[tuple[Method, DetectorBesidePeople]]:
        """Each method beside people."""
        return zip(self.methods, self.comparison.detectors.values(), strict=True)


PeopleOfSettings = Mapping[tuple[str, Setting], Sequence[MethodsBesidePeople]]


def trials_in_data(task: str, track: str, data: Path | None) -> Path | None:
    """Return the file of people's trials that a task has on a track. It need not exist.

    Args:
        task, track: their names.
        data: the data folder, for tasks whose pictures are there.

    Returns:
        None if the task is not installed or names no trials, or if there is no data folder.
    """
    definition = load_task(task).tracks.get(track) if task in list_tasks() else None
    if definition is None or definition.trials is None:
        return None
    match definition.test.source:
        case FolderSource() as source:
            return source.folder / definition.trials
        case HubSource(folder=folder) if data is not None:
            return data / folder / definition.trials
    return None


def people_of_settings(entries: Sequence[Entry], data: Path | None) -> PeopleOfSettings:
    """Return people beside the methods of each setting that has trials, by track and setting.

    Args:
        entries: all records. Methods that lack scores, or have those of other images than the first
            method of the setting, are left out.
        data: the data folder, in which tasks name their trials.

    Raises:
        AttnbenchError: if a file of trials is not valid.
    """
    found = {}
    for track, settings in group_entries(entries).items():
        for setting, methods in settings.items():
            file = trials_in_data(setting.task, track, data)
            if file is None or not file.is_file():
                continue
            detectors = dict(_detectors(methods))
            if detectors:
                numbered = {str(number): one for number, one in enumerate(detectors.values())}
                compared = beside_people(numbered, read_trials(file))
                found[track, setting] = [
                    MethodsBesidePeople(one, tuple(detectors)) for one in compared
                ]
    return found


def _detectors(
    methods: Mapping[Method, Sequence[Entry]],
) -> Iterator[tuple[Method, ScoredImages]]:
    first: ScoredImages | None = None
    for method, entries in sorted(methods.items()):
        if any(entry.scores is None for entry in entries):
            continue
        ordered = sorted(entries, key=lambda entry: entry.record.identity.seed)
        scored = ScoredImages.of([entry.read_scores() for entry in ordered])
        first = first or scored
        if scored.has_images_of(first):
            yield method, scored
