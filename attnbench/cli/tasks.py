"""`attnbench tasks [NAME]`: list the tasks and the data they need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.cli import options

if TYPE_CHECKING:
    from attnbench.tasks import TaskDefinition, Track

# Of the column of tracks: two spaces and `photographs`.
_NAME_WIDTH = 13


def tasks(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="A task, or a task file, to show in detail.",
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_GALLERY",
            metavar="FILE.png",
            dir_okay=False,
            help="Draw some of the task's positives and negatives.",
        ),
    ] = None,
    track: options.Track = None,
    data: options.Data = None,
) -> None:
    """List the tasks, or show one in detail.

    Shows which data each track needs, and whether it is there.
    """
    from attnbench.tasks import list_tasks, load_task

    if gallery is not None and name is None:
        raise typer.BadParameter("name a task to draw", param_hint="--gallery")
    if name is None:
        _print_list([load_task(task_name) for task_name in list_tasks()], data)
        return
    from attnbench.runs.chosen_tasks import choose_tasks

    if gallery is None and track is None:
        task = load_task(name)
        _print_task(task, task.tracks, data)
        return
    chosen = choose_tasks([name], track, None)[0]
    if gallery is None:
        _print_task(chosen.task, {chosen.track: chosen.definition}, data)
        return
    from attnbench.stimuli.gallery import draw_gallery

    draw_gallery(chosen.task, chosen.track, gallery, data, chosen.backbones[0])
    typer.echo(str(gallery))


def _print_list(tasks: list[TaskDefinition], data: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    tracks = [track for task in tasks for track in task.tracks.values()]
    backbones = [backbone for track in tracks for backbone in track.backbones]
    for task in tasks:
        console.print(Text(task.name, style="bold"))
        table = Table.grid(padding=(0, 1))
        # The same widths for all tasks, unless a track has a long name. Only the last column may be
        # broken, and only between words.
        table.add_column(min_width=_NAME_WIDTH, no_wrap=True)
        table.add_column(min_width=max(map(len, backbones)), no_wrap=True)
        table.add_column()
        for name, track in task.tracks.items():
            table.add_row(f"  {name}", "\n".join(track.backbones), "\n".join(_needs(track, data)))
        console.print(table, markup=False)


def _print_task(task: TaskDefinition, tracks: Mapping[str, Track], data: Path | None) -> None:
    lines = [
        f"{task.name} (version {task.version}): {task.title}",
        "",
        task.description.strip(),
        "",
        f"reference  {task.reference}",
    ]
    for name, track in tracks.items():
        targets = (
            {"all": "all classes", "imagenet-a": "ImageNet-A's 200 classes"}[track.targets]
            if isinstance(track.targets, str)
            else f"{len(track.targets)} targets"
        )
        lines += [
            "",
            f"{name}: {targets}, {track.timeout:g} s per adaptation",
            f"  hash       {task.content_hash(name)}",
            f"  backbones  {', '.join(track.backbones)}",
        ]
        for role, sample in (("adapt", track.adapt), ("test", track.test)):
            lines.append(
                f"  {role:<9}  {sample.positives} positives, {sample.negatives} negatives"
                f"{' of the other targets' * (sample.negatives_from == 'targets')}, "
                f"from {_describe(sample.source)}"
            )
            if sample.generator is not None:
                lines.append(f"  {'':<9}  {_describe(sample.generator)}")
        lines += [f"  data       {need}" for need in _needs(track, data)]
        lines += [f"  access     {how}" for how in _access(track)]
        if not isinstance(track.targets, str):
            lines.append(f"  targets    {', '.join(track.targets)}")
    typer.echo("\n".join(lines))


def _describe(definition: Any) -> str:
    """Return a source or a generator as `kind (key value, …)`."""
    fields = definition.model_dump(exclude_defaults=True, exclude={"size", "access"})
    kind = fields.pop("kind")
    if "classes" in fields:
        fields["classes"] = len(fields["classes"])
    if fields.pop("by_class", False):
        fields["split"] += " of each class"
    return f"{kind} ({', '.join(f'{key} {value}' for key, value in fields.items())})"


def _needs(track: Track, data: Path | None) -> list[str]:
    """Return a line for each data set that a track needs, which says whether it is there."""
    lines = []
    for sample in (track.adapt, track.test):
        source: Any = sample.source
        if source.kind == "folder":
            state = "found" if source.folder.exists() else "MISSING"
            lines.append(f"{source.folder} {state}")
            continue
        if source.kind != "hub":
            lines.append("none: embedded")
            continue
        data_set = (source.hub or source.folder) + (f" ({source.size})" if source.size else "")
        if data is None:
            origin = (
                ", from the hub (or --data)" if source.hub else " (not on the hub: needs --data)"
            )
            lines.append(data_set + origin)
        else:
            state = "found" if (data / source.folder).is_dir() else "MISSING"
            lines.append(f"{data_set}: {data / source.folder} {state}")
    return list(dict.fromkeys(lines))


def _access(track: Track) -> list[str]:
    """Return how to get access to a track's data, if it cannot simply be downloaded."""
    sources: list[Any] = [track.adapt.source, track.test.source]
    return list(
        dict.fromkeys(text for source in sources if (text := getattr(source, "access", "")))
    )
