"""Where records are kept: JSON files with their scores beside them, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from filelock import FileLock, Timeout
from pydantic import ValidationError

from attnbench.errors import AttnbenchError
from attnbench.files import read_file, write_atomically
from attnbench.records.audit import audit_file
from attnbench.records.companions import MAX_BYTES as MAX_COMPANION
from attnbench.records.partial import PartialRun
from attnbench.records.record import SCHEMA_VERSION, Identity, Record
from attnbench.records.scores import (
    MAX_BYTES as MAX_SCORES,
)
from attnbench.records.scores import (
    encode_scores,
    files_of,
    images_file,
    is_intact,
    read_scores,
    scores_file,
    sha256_of,
)
from attnbench.records.verification import path_beside

if TYPE_CHECKING:
    import pandas as pd

_MAX_BYTES = 64 << 20
_PARTIAL = ".partial"
# The files beside a record that say what has been found out about it since.
_COMPANIONS = (path_beside, audit_file)


class RecordStore:
    """The records in a folder, as `TRACK/TASK/SUBMISSION@BACKBONE@seedN@DEVICE.json`.

    Args:
        root: the folder, which may not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def path_of(self, identity: Identity) -> Path:
        """Return the file of the record of this identity. The scores are beside it, as `.parquet`."""
        backbone = identity.backbone.replace("/", "-") + ("-untrained" * identity.untrained)
        name = f"{identity.submission}@{backbone}@seed{identity.seed}@{identity.device}"
        name += "" if identity.images is None else f"@{identity.images}images"
        name += "@seen" * identity.seen
        name += ".json" if identity.isolation == "process" else f"@{identity.isolation}.json"
        return self._root / identity.track / identity.task / name

    def save(self, record: Record, scores: pa.Table) -> Path:
        """Write the scores, then the record with their hash. Return the record's path.

        The files of the finished episodes are removed.

        Args:
            record: the record, whose `scores_file` and hashes are filled in here.
            scores: the scores of all its episodes.

        Raises:
            AttnbenchError: if the folder cannot be written; earlier records stay intact.
        """
        path = self.path_of(record.identity)
        encoded = encode_scores(scores)
        hashed = {
            "scores_file": scores_file(path).name,
            "scores_sha256": sha256_of(encoded.scores),
            "test_images_sha256": sha256_of(encoded.images),
        }
        record = Record.model_validate(record.model_dump() | hashed)
        partial = self.partial(record.identity)
        # The scores come first. A crash in between leaves the old record with new scores, whose hash
        # does not match: `find` then treats the record as missing.
        images = images_file(path, hashed["test_images_sha256"])
        with self._replacing(path):
            write_atomically(images, encoded.images, partial.folder)
            write_atomically(scores_file(path), encoded.scores, partial.folder)
            write_atomically(path, record.model_dump_json(indent=1).encode(), partial.folder)
        partial.discard()
        return path

    def copy(self, path: Path, record: Record) -> Path:
        """Copy a record of another folder byte for byte, with its scores, verification and audit.

        Args:
            path: the record's JSON file in that folder.
            record: the record in it.

        Returns:
            The copy's path.

        Raises:
            AttnbenchError: if a file cannot be read or written.
        """
        target = self.path_of(record.identity)
        copies = dict(zip(files_of(path, record), files_of(target, record), strict=True))
        with self._replacing(target):
            try:
                for file_of in _COMPANIONS:
                    file_of(target).unlink(missing_ok=True)
                contents = {copy: read_file(source, MAX_SCORES) for source, copy in copies.items()}
                for file_of in _COMPANIONS:
                    if (companion := file_of(path)).exists():
                        # Its content is not checked. A link could make a private file public.
                        content = read_file(companion, MAX_COMPANION, follow_link=False)
                        contents[file_of(target)] = content
                # The JSON file comes last: without it, the others are not a record.
                contents[target] = read_file(path, _MAX_BYTES)
                for copy, content in contents.items():
                    write_atomically(copy, content, target.parent)
            except OSError as error:
                problem = f"cannot copy {error.filename or path} ({error.strerror})"
                raise AttnbenchError(problem) from None
        return target

    @contextlib.contextmanager
    def _replacing(self, path: Path) -> Iterator[None]:
        """On leaving, remove the replaced record's list of images if no other record needs it."""
        replaced: Record | None = None
        with contextlib.suppress(AttnbenchError):  # there is no record yet, or it is damaged
            replaced = self.read(path)
        yield
        if replaced is not None:
            self._remove_unneeded_images(path, replaced)

    def read(self, path: Path) -> Record:
        """Read the record in a file. Raises AttnbenchError, which names the file and the problem."""
        try:
            text = read_file(path, _MAX_BYTES)
        except OSError as error:
            raise AttnbenchError(f"{path}: cannot be read ({error.strerror})") from None
        try:
            return Record.model_validate_json(text)
        except ValidationError as error:
            raise AttnbenchError(f"{path}: {_describe(error)}") from None

    def paths(self) -> Iterator[Path]:
        """Yield the files that may be records, sorted."""
        for path in sorted(self._root.glob("*/*/*.json")):
            if not path.parts[len(self._root.parts)].startswith("."):
                yield path

    def load(self, path: Path) -> Record:
        """As `read`, for a file in this folder.

        Raises:
            AttnbenchError: also for a link that leads out of the folder, and for a record whose place
                is another one: it could stand in for the record of somebody else.
        """
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise AttnbenchError(
                f"{path}: a link out of the records folder; copy the record into it"
            )
        record = self.read(path)
        if path != (expected := self.path_of(record.identity)):
            raise AttnbenchError(f"{path}: this record belongs in {expected}; rename the file")
        return record

    def load_all(self) -> tuple[list[tuple[Path, Record]], list[str]]:
        """Read all records, sorted by path. Also return the problems of files that were skipped."""
        records, problems = [], []
        for path in self.paths():
            try:
                records.append((path, self.load(path)))
            except AttnbenchError as error:
                problems.append(str(error))
        return records, problems

    def find(self, identity: Identity) -> tuple[Path, Record] | None:
        """Return the record of exactly this identity, if it and its scores are intact, else None."""
        path = self.path_of(identity)
        try:
            record = self.read(path)
        except AttnbenchError:
            return None
        matches = record.identity == identity and is_intact(path, record)
        return (path, record) if matches else None

    def remove(self, path: Path) -> None:
        """Remove a record with its scores, verification and audit.

        Its list of images is removed if no other record needs it.

        Args:
            path: the record's JSON file.

        Raises:
            AttnbenchError: if the record cannot be read or removed.
        """
        record = self.read(path)
        try:
            path.unlink()
            for file_of in _COMPANIONS:
                file_of(path).unlink(missing_ok=True)
            scores_file(path).unlink(missing_ok=True)
            self._remove_unneeded_images(path, record)
        except OSError as error:
            raise AttnbenchError(f"cannot remove {error.filename} ({error.strerror})") from None

    def _remove_unneeded_images(self, path: Path, record: Record) -> None:
        """Remove the list of images of a former record, if no record in the same folder needs it.

        Args:
            path: the JSON file that the record was in.
            record: the record that was removed or replaced.
        """
        sha256 = record.test_images_sha256
        if sha256 is None:
            return
        try:
            records = map(self.read, path.parent.glob("*.json"))
            is_needed = any(other.test_images_sha256 == sha256 for other in records)
        except AttnbenchError:  # a record that cannot be read may need it
            return
        if not is_needed:
            images_file(path, sha256).unlink(missing_ok=True)

    def partial(self, identity: Identity) -> PartialRun:
        """Return the folder of finished episodes of an interrupted run of this identity."""
        return PartialRun(self._root / _PARTIAL / _key(identity))

    @contextlib.contextmanager
    def claim(self, identity: Identity, *, wait: bool = True) -> Iterator[bool]:
        """Claim a record, which only one process at a time may make.

        Args:
            identity: the identity of the record.
            wait: whether to wait for another process that holds the claim. If not, False is yielded
                in that case.

        Yields:
            Whether this process holds the claim.

        Raises:
            AttnbenchError: if the folder cannot be written.
        """
        path = self._root / _PARTIAL / f"{_key(identity)}.lock"
        lock = FileLock(path, timeout=-1 if wait else 0)
        try:
            is_ours = _acquire(lock, path)
        except OSError as error:
            raise AttnbenchError(
                f"cannot write {path} ({error.strerror}); choose another folder with --records"
            ) from None
        try:
            yield is_ours
        finally:
            if is_ours:
                # Removed while it is held: a process that waits sees that and creates a new one.
                path.unlink(missing_ok=True)
                lock.release()
                with contextlib.suppress(OSError):
                    path.parent.rmdir()  # if this was the last unfinished run


def scores(record: str | Path) -> pd.DataFrame:
    """Return the scores of a record: a row per test image.

    Args:
        record: the record's JSON file.

    Returns:
        The columns `target` and `image` (text), `present` (bool: whether the target is in the image)
        and `score` (float32: above 0, the detector says that it is).

    Raises:
        AttnbenchError: if the record or its scores cannot be read.
    """
    path = Path(record)
    try:
        table = read_scores(path, RecordStore(path.parent).read(path))
    except ValueError as error:
        raise AttnbenchError(f"{path}: {error}") from None
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _acquire(lock: FileLock, path: Path) -> bool:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (FileNotFoundError, FileExistsError):
            # Another process has just removed the empty folder, perhaps while `mkdir` looked at it.
            # Otherwise the records folder cannot be made, or something else is in the way.
            is_missing = not path.parent.parent.is_dir()
            if is_missing or path.parent.is_file() or path.parent.is_symlink():
                raise
        except Timeout:
            return False
        else:
            return True


def _key(identity: Identity) -> str:
    return hashlib.sha256(identity.model_dump_json().encode()).hexdigest()


def _describe(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if key == "schema_version":
        return (
            f"schema version {str(first['input'])[:20]!r}, but this attnbench reads "
            f"{SCHEMA_VERSION}; upgrade attnbench to use it"
        )
    return f"not a complete record ({key + ': ' if key else ''}{first['msg']})"
