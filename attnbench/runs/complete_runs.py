"""Runs whose records all exist: their rows, without importing torch or starting a worker."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from attnbench.records.rows import row_of
from attnbench.records.store import RecordStore
from attnbench.runs.chosen_tasks import ChosenTask
from attnbench.runs.events import Event, Planned
from attnbench.runs.identities import Request, identity_of
from attnbench.shipped_weights import shipped_fingerprint
from attnbench.submission import Submission


def rows_of_complete_run(
    submissions: Sequence[Submission],
    tasks: Sequence[ChosenTask],
    request: Request,
    folder: Path,
    *,
    retry_failed: bool,
    report: Callable[[Event], None],
) -> list[dict[str, object]] | None:
    """Return the rows of a run if all of its records exist and none needs to run again.

    Args:
        submissions, tasks, request: what is to be run.
        folder: the folder of records.
        retry_failed: whether failures run again.
        report: called with an event that names the records.

    Returns:
        The rows, in the order of `attnbench.runs.planning.make_plans`. None if a record is missing, or
        may be: the user's own images may have changed, and it takes torch to compute the fingerprint
        of a backbone that is not shipped.
    """
    if request.untrained or any(chosen.folders for chosen in tasks):
        return None
    backbones = dict.fromkeys(backbone for chosen in tasks for backbone in chosen.backbones)
    fingerprints = {backbone: shipped_fingerprint(backbone) for backbone in backbones}
    store, found = RecordStore(folder), []
    wanted = itertools.product(fingerprints.items(), tasks, submissions, range(request.seeds))
    for (backbone, sha256), chosen, submission, seed in wanted:
        if backbone not in chosen.backbones:
            continue
        if sha256 is None:
            return None
        record = store.find(identity_of(submission, chosen, backbone, sha256, request, seed))
        if record is None or (retry_failed and record[1].status == "failed"):
            return None
        found.append(record)
    report(Planned({}, tuple(path for path, _ in found)))
    return [row_of(record, path) for path, record in found]
