"""Reading the tasks of a run. Torch is not imported for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.backbone_names import with_file
from attnbench.errors import AttnbenchError
from attnbench.task_schema import TaskDefinition, Track
from attnbench.tasks import list_tasks, load_task
from attnbench.text import did_you_mean

DEFAULT_TRACK = "mini"


@dataclass(frozen=True)
class ChosenTask:
    """A task on one of its tracks.

    Attributes:
        task: the task.
        track: the track's name.
        backbones: the backbones to adapt, as `attnbench.backbones.load` takes them.
        targets: the only targets to run, in the task's order. None for all of them.
    """

    task: TaskDefinition
    track: str
    backbones: tuple[str, ...]
    targets: tuple[str, ...] | None = None

    @property
    def definition(self) -> Track:
        """The definition of the track."""
        return self.task.tracks[self.track]

    @property
    def folders(self) -> tuple[Path, ...]:
        """The user's own folders of pictures, whose names may be labels."""
        return self.definition.folders

    @property
    def uses_data_folder(self) -> bool:
        """Whether the data folder can matter: a data set of the hub, or published weights."""
        sources = (self.definition.adapt.source, self.definition.test.source)
        published = ("torchvision/", "timm/", "sixteen/")
        return any(source.kind == "hub" for source in sources) or any(
            backbone.startswith(published) for backbone in self.backbones
        )


def choose_tasks(
    tasks: Sequence[str | Path] | None, track: str | Sequence[str] | None, backbone: str | None
) -> list[ChosenTask]:
    """Return the tasks of a run.

    Args:
        tasks: names of tasks or paths of task files. None for every task that has the track.
        track: the name of a track, or of several, each of which is then run. None for `mini`, or for
            the only track of a task without `mini`.
        backbone: the backbone to adapt. None for those of the track.

    Raises:
        AttnbenchError: if a task or track is unknown, or a task file is not valid.
    """
    if track is not None and not isinstance(track, str):
        return [chosen for name in track for chosen in choose_tasks(tasks, name, backbone)]
    definitions = [load_task(name) for name in (tasks or list_tasks())]
    # The only track of a task counts if the task is named, not among all tasks.
    wanted = track or (None if tasks else DEFAULT_TRACK)
    tracks = [_track_of(task, wanted) for task in definitions]
    lacking = [task for task, name in zip(definitions, tracks, strict=True) if name is None]
    if lacking and (tasks or len(lacking) == len(definitions)):
        raise AttnbenchError(_explain_lacking(lacking, track))
    return [
        ChosenTask(task, name, (backbone,) if backbone else _backbones(task.tracks[name], place))
        for task, name, place in zip(definitions, tracks, tasks or list_tasks(), strict=True)
        if name is not None
    ]


def _track_of(task: TaskDefinition, track: str | None) -> str | None:
    wanted = track or DEFAULT_TRACK
    if wanted in task.tracks:
        return wanted
    # A task file of one's own usually has one track, whatever its name.
    return next(iter(task.tracks)) if track is None and len(task.tracks) == 1 else None


def _explain_lacking(tasks: Sequence[TaskDefinition], track: str | None) -> str:
    tracks = "; ".join(f"{task.name} has {', '.join(task.tracks)}" for task in tasks)
    if track is None:
        return f"choose a track with --track: {tracks}"
    meant = did_you_mean(track, [name for task in tasks for name in task.tracks], "; ")
    return f"--track {track}: there is no such track{meant} ({tracks})"


def _backbones(track: Track, task: str | Path) -> tuple[str, ...]:
    """Return a track's backbones; files of one's own are relative to the task file."""
    if not Path(task).is_file():
        return track.backbones
    folder = Path(task).parent
    return tuple(with_file(name, lambda file: folder / file) for name in track.backbones)
