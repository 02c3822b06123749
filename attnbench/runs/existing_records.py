"""Which records and episodes of a plan exist already, and why others are made again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import pyarrow.compute as pc

from attnbench.errors import AttnbenchError
from attnbench.records.integrity import read_scores
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import Identity, Record
from attnbench.records.store import RecordStore
from attnbench.runs.planning import Plan


def existing_records(
    store: RecordStore, plans: Iterable[Plan]
) -> dict[Identity, tuple[Path, Record]]:
    """Return the records of those plans that need not run again."""
    existing = ((plan.identity, find_record(store, plan)) for plan in plans)
    return {identity: record for identity, record in existing if record is not None}


def find_record(store: RecordStore, plan: Plan) -> tuple[Path, Record] | None:
    """Return the record of a plan, unless the pictures have changed since."""
    found = store.find(plan.identity)
    if found is None or not all(map(plan.has_same_images, found[1].episodes)):
        return None
    return found


def notes_of_replaced(
    store: RecordStore, plans: Iterable[Plan], kept: Container[Identity]
) -> Iterator[str]:
    """Yield a sentence for each reason why existing records are replaced."""
    replaced: dict[str, list[Path]] = defaultdict(list)
    for plan in plans:
        path = store.path_of(plan.identity)
        if plan.identity in kept or not path.exists():
            continue
        try:
            old = store.read(path).identity
        except AttnbenchError:
            replaced["they cannot be read"].append(path)
            continue
        parts = [
            part
            for part in ("submission", "task", "backbone")
            if getattr(old, f"{part}_sha256") != getattr(plan.identity, f"{part}_sha256")
        ]
        if parts:
            replaced[f"they are of another version of the {' and the '.join(parts)}"].append(path)
        elif store.find(plan.identity):
            replaced["the pictures have changed since"].append(path)
        else:
            replaced["their scores are missing or damaged"].append(path)
    for reason, paths in replaced.items():
        more = f" and {len(paths) - 1} more" * (len(paths) > 1)
        yield f"records are made again, and replaced once complete, as {reason}: {paths[0]}{more}"


def missing_targets(store: RecordStore, plan: Plan) -> list[str]:
    """Return the targets without a finished episode, in the plan's order."""
    finished = store.partial(plan.identity).finished()
    return [
        target
        for target in plan.targets
        if target not in finished or not plan.has_same_images(finished[target].result)
    ]


def discard_requested(store: RecordStore, plan: Plan) -> None:
    """Discard what is known of a plan's requested targets, so that they run again.

    The other episodes of its record are kept for the record that replaces it.

    Args:
        store: where records are kept.
        plan: the plan.
    """
    partial = store.partial(plan.identity)
    if plan.only is None:
        partial.discard()
        return
    if (found := find_record(store, plan)) is not None:
        path, record = found
        scores = read_scores(path, record)
        for result in record.episodes:
            of_target = scores.filter(pc.equal(scores["target"], result.target))
            partial.add(EpisodeOutcome(result, of_target, record.environment))
    for target in plan.only:
        partial.remove(target)
