"""Restricting a run to some targets (`--target`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from attnbench.errors import AttnbenchError
from attnbench.judge.resource_cache import ResourceCache
from attnbench.runs.chosen_tasks import ChosenTask
from attnbench.text import did_you_mean, printable

_MAX_KNOWN = 40


def choose_targets(
    tasks: Sequence[ChosenTask], targets: Sequence[str] | None, resources: ResourceCache
) -> tuple[list[ChosenTask], list[str]]:
    """Restrict tasks to some targets.

    Args:
        tasks: the tasks of the run.
        targets: the names of the targets. None for all targets of all tasks.
        resources: where the targets of a task are looked up.

    Returns:
        The tasks that have one of the targets, and a note for each target that some tasks lack.

    Raises:
        AttnbenchError: if no task has a target of this name.
    """
    if targets is None:
        return list(tasks), []
    known = [resources.stimuli(task.definition, task.backbones[0]).targets for task in tasks]
    notes = []
    for target in dict.fromkeys(targets):
        lacking = [
            task.task.name for task, names in zip(tasks, known, strict=True) if target not in names
        ]
        if len(lacking) == len(tasks):
            raise AttnbenchError(_explain_unknown(target, list(dict.fromkeys(chain(*known)))))
        if lacking:
            notes.append(f"--target {target}: not on {', '.join(lacking)}, without this target")
    restricted = (
        replace(task, targets=tuple(name for name in names if name in targets))
        for task, names in zip(tasks, known, strict=True)
    )
    return [task for task in restricted if task.targets], notes


def _explain_unknown(target: str, known: Sequence[str]) -> str:
    meant = did_you_mean(target, known, ": ")
    more = f", … ({len(known)} in all)" * (len(known) > _MAX_KNOWN)
    return (
        f"--target: no task of this run has the target {printable(target)!r}"
        f"{meant} (known: {', '.join(known[:_MAX_KNOWN])}{more})"
    )
