"""`attnbench publish`: check one's own records, and copy them to the published ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from attnbench.backbones import fingerprint, load
from attnbench.commands.audit import audit
from attnbench.commands.leaderboard import build_leaderboard
from attnbench.commands.new import PLACEHOLDER_AUTHOR
from attnbench.commands.recorded_task import find_task, is_recorded_version
from attnbench.errors import AttnbenchError
from attnbench.records.audit import Audit
from attnbench.records.integrity import contradictions
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.records.verification import badge_of
from attnbench.submission import MANIFEST, Submission, load_submission
from attnbench.version import __version__

_MAX_PROBLEMS = 20


@dataclass(frozen=True)
class Publication:
    """What was published.

    Attributes:
        copied: the published files, by the name of the submission.
        replaced: those of them that replaced an earlier record.
        audits: the outcome of the audit of each record in the folder of one's own; empty without.
        listed: the number of records on the new leaderboard.
        in_git: whether the working directory is in a git repository. Outside one, nothing shows
            whether everything is committed.
    """

    copied: dict[str, list[Path]]
    replaced: list[Path]
    audits: dict[Path, Audit]
    listed: int
    in_git: bool


def publish(
    submissions: Sequence[str | Path],
    *,
    records: Path = Path("records"),
    published: Path = Path("published"),
    out: Path = Path("leaderboard.md"),
    with_audit: bool = False,
    sample: int | None = None,
    data: Path | None = None,
    on_target: Callable[[str], None] | None = None,
) -> Publication:
    """Copy all records of some submissions to the published ones, and rebuild the leaderboard.

    Nothing is copied unless all records are intact, and were made with the current versions of the
    submission, the task, the backbone and attnbench. All changes in the git repository must be
    committed. Weights of backbones that are not shipped are not checked, as they need not be here.

    Args:
        submissions: folders, or names of shipped submissions.
        records: the folder of one's own records.
        published: the folder of published records.
        out: the leaderboard to write.
        with_audit: whether to audit each successful record first (`attnbench.commands.audit`). An
            audit informs readers and stops nothing: whatever it shows is published with the record.
        sample, data, on_target: for the audits, as for `attnbench.verify`.

    Raises:
        AttnbenchError: if there are no records, if some cannot be published, or if one cannot be
            audited here. The message says why, and nothing is published.
    """
    store = RecordStore(records)
    loaded = store.load_all()[0]
    chosen: list[tuple[Path, Record]] = []
    problems: list[str] = []
    used: dict[str, Submission] = {}
    for submission in map(load_submission, submissions):
        own = [each for each in loaded if each[1].identity.submission == submission.name]
        if not own:
            problems.append(
                f"{records} has no records of {submission.name}: run `attnbench evaluate` first"
            )
        for path, record in own:
            problems += [f"{path}: {problem}" for problem in _problems(path, record, submission)]
        if PLACEHOLDER_AUTHOR in submission.manifest.authors:
            problems.append(f"{submission.folder / MANIFEST}: replace {PLACEHOLDER_AUTHOR!r}")
        chosen += own
        used[submission.name] = submission
    changes = _uncommitted_changes(list(used.values()), ignored=(records, published, out))
    if changes:
        problems.append(
            f"not committed: {', '.join(changes[:5])}{' …' * (len(changes) > 5)}. Commit first, so "
            "that others can check out what was measured"
        )
    if problems:
        listed = [f"  {problem}" for problem in problems[:_MAX_PROBLEMS]]
        listed += ["  …"] * (len(problems) > _MAX_PROBLEMS)
        raise AttnbenchError("\n".join(["nothing was published:", *listed]))
    audits = {
        path: audit(
            path,
            sample=sample,
            submission=used[record.identity.submission].folder,
            data=data,
            on_target=on_target,
        )
        for path, record in chosen
        if with_audit and record.status == "ok"
    }
    target = RecordStore(published)
    replaced = [
        existing
        for path, record in chosen
        if (existing := target.path_of(record.identity)).exists()
        and existing.read_bytes() != path.read_bytes()
    ]
    copied: dict[str, list[Path]] = {}
    for path, record in chosen:
        copied.setdefault(record.identity.submission, []).append(target.copy(path, record))
    board = build_leaderboard([published])
    board.write_page(out)
    return Publication(copied, replaced, audits, board.listed, changes is not None)


def _problems(path: Path, record: Record, submission: Submission) -> Iterator[str]:
    """Yield why a record cannot be published."""
    identity = record.identity
    found = contradictions(path, record)
    yield from found
    if not found and badge_of(path, found) == "failed verification":
        yield "it failed verification"
    if identity.untrained:
        yield "its backbone is untrained"
    if record.environment.attnbench != __version__:
        yield f"it was made by attnbench {record.environment.attnbench}, not {__version__}"
    again = "; evaluate the submission again, or remove the record with `attnbench records remove`"
    if identity.submission_sha256 != submission.sha256:
        yield f"it was made with another version of the submission{again}"
    try:
        if not is_recorded_version(find_task(identity, None), identity):
            yield f"it was made with another version of the task{again}"
    except AttnbenchError as error:
        yield str(error)
    if identity.backbone.startswith("shipped/") and (
        identity.backbone_sha256 != _shipped_fingerprint(identity.backbone)
    ):
        yield f"it was made with another version of the backbone{again}"


@cache
def _shipped_fingerprint(backbone: str) -> str | None:
    try:
        return fingerprint(load(backbone))
    except AttnbenchError:  # the backbone is no longer shipped
        return None


def _uncommitted_changes(
    submissions: Sequence[Submission], ignored: Sequence[Path]
) -> list[str] | None:
    """Return the files with changes that are not committed, or None outside a git repository.

    New files count if they belong to a submission, even if git ignores them: without them, nobody can
    run what was measured. Others may be drafts.

    Args:
        submissions: the submissions, of which those outside the repository do not count.
        ignored: files and folders whose changes do not count.
    """
    try:
        root = Path(_git("rev-parse", "--show-toplevel").strip())
        status = _git("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames")
        listed = _git("ls-files", "-z", "--full-name", str(root))
    except (OSError, subprocess.CalledProcessError):
        return None
    changed = [root / entry[3:] for entry in status.split("\0") if entry]
    tracked = {root / name for name in listed.split("\0")}
    needed = [each.folder / name for each in submissions for name in each.files]
    new = [path for path in needed if path.is_relative_to(root) and path not in tracked]
    left_out = [path.resolve() for path in ignored]
    return [
        str(path.relative_to(root))
        for path in (*changed, *new)
        if not any(path.is_relative_to(folder) for folder in left_out)
    ]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
