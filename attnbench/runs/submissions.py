"""Reading the submissions of a run, without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.overrides import Settings
from attnbench.runs.sweep import sweep
from attnbench.submission import Submission, load_submission


@dataclass(frozen=True)
class RejectedSubmission:
    """A submission folder that cannot be run, and why."""

    name: str
    reason: str


def read_submissions(
    paths: Sequence[str | Path], settings: Settings
) -> tuple[list[Submission], list[RejectedSubmission]]:
    """Read submissions, and set aside those that are not valid.

    Args:
        paths: folders, or names of shipped submissions.
        settings: hyperparameters to override in all of them, see `sweep`.

    Returns:
        The submissions that can be run, and those that cannot.

    Raises:
        AttnbenchError: if a submission does not exist, two have the same name, or one has no such
            hyperparameter.
    """
    submissions: dict[Path, Submission] = {}
    rejected: list[RejectedSubmission] = []
    for path in paths:
        try:
            submission = load_submission(path)
        except AttnbenchError as error:
            if not Path(path).is_dir():
                raise
            rejected.append(RejectedSubmission(Path(path).resolve().name, str(error)))
        else:
            if submission.folder in submissions:
                raise AttnbenchError(f"the submission {submission.name} is given twice")
            submissions[submission.folder] = submission
    _require_distinct_names(list(submissions.values()))
    variants = [
        variant for submission in submissions.values() for variant in sweep(submission, settings)
    ]
    _require_distinct_names(variants)
    return variants, rejected


def _require_distinct_names(submissions: Sequence[Submission]) -> None:
    names = [submission.name for submission in submissions]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise AttnbenchError(
            f"two submissions are named {', '.join(duplicates)}; "
            "give each its own `name` in submission.toml"
        )
