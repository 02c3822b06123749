"""Finding the task and the backbone that a record was made with."""

from __future__ import annotations

from pathlib import Path

from attnbench.backbones.own_file import name_in_records
from attnbench.errors import AttnbenchError
from attnbench.records.record import Identity
from attnbench.tasks import TaskDefinition, list_tasks, load_task


def find_task(identity: Identity, given: str | Path | None) -> TaskDefinition:
    """Return the task of a record.

    Args:
        identity: the record's.
        given: the name or file of the task. None for the shipped or installed task of the recorded
            name, or else the file `NAME.toml` in the working directory.

    Raises:
        AttnbenchError: if there is no such task, or it has another name than the recorded one.
    """
    if given is None:
        given = identity.task
        if given not in list_tasks():
            given = Path(f"{given}.toml")
            if not given.is_file():
                raise AttnbenchError(
                    f"the record is of the task {identity.task}, which is not shipped; name its file "
                    "with --task"
                )
    task = load_task(given)
    if task.name != identity.task:
        raise AttnbenchError(
            f"the record is of the task {identity.task}, but {given} is {task.name}"
        )
    return task


def is_recorded_version(task: TaskDefinition, identity: Identity) -> bool:
    """Return whether a task is the very version that a record was made with."""
    return (
        identity.track in task.tracks and task.content_hash(identity.track) == identity.task_sha256
    )


def find_backbone(identity: Identity, given: str | None) -> str:
    """Return the name by which a record's backbone can be loaded.

    Args:
        identity: the record's.
        given: the backbone's name or file. None for the recorded name.

    Raises:
        AttnbenchError: if it is a backbone of somebody's own and not given, or another one.
    """
    if given is None and identity.backbone.startswith("own/"):
        raise AttnbenchError(
            f"the record is of {identity.backbone}, a backbone of somebody's own; name its "
            "backbone.toml or FILE.py:FUNCTION with --backbone"
        )
    if given is not None and name_in_records(given) != identity.backbone:
        raise AttnbenchError(
            f"the record is of the backbone {identity.backbone}, not of {name_in_records(given)}; "
            "leave out --backbone to use the recorded one"
        )
    return given or identity.backbone
