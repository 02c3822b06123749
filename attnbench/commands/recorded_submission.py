"""Finding the submission that a record was made with."""

from __future__ import annotations

import shlex
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.overrides import Overrides, Settings
from attnbench.records.record import Record
from attnbench.runs.sweep import sweep
from attnbench.submission import Submission, load_submission
from attnbench.text import printable


def find_submission(record: Record, given: str | Path | None, settings: Settings) -> Submission:
    """Return the submission of a record, perhaps of another version than the recorded one.

    Args:
        record: the record.
        given: the submission's folder. None for `submissions/NAME` if it exists here, else the
            shipped submission of the recorded name.
        settings: the hyperparameters that were overridden, see `sweep`.

    Raises:
        AttnbenchError: if there is no such submission, or the record has other overrides.
    """
    recorded = record.overrides
    if (recorded is None) == bool(settings):
        raise AttnbenchError(_explain(record, recorded))
    name = record.identity.submission if recorded is None else recorded.submission
    variants = sweep(load_submission(given or _by_name(name)), settings)
    if [variant.overrides for variant in variants] != [recorded]:
        raise AttnbenchError(_explain(record, recorded))
    return variants[0]


def _by_name(name: str) -> str | Path:
    local = Path("submissions", name)
    return local if local.is_dir() else name


def _explain(record: Record, recorded: Overrides | None) -> str:
    name = record.identity.submission
    if recorded is None:
        return f"the record of {name} has the hyperparameters of its manifest: leave out --set"
    options = " ".join(
        f"--set {shlex.quote(f'{name}={text}')}" for name, text in recorded.hyperparameters.items()
    )
    return (
        f"the record of {name} was made with overridden hyperparameters of "
        f"{printable(recorded.submission)} ({printable(recorded)}): verify it with {printable(options)}"
    )
