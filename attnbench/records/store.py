"""Where records are kept: JSON beside Parquet, each written whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pydantic import Base64Bytes, BaseModel, ConfigDict, ValidationError

from attnbench.errors import AttnbenchError
from attnbench.records.record import (
    SCHEMA_VERSION,
    Environment,
    EpisodeResult,
    Identity,
    Record,
)

_LIMIT = 64 << 20
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Measured:
    """What came of an episode.

    Attributes:
        result: its figures, or why it has none.
        scores: a row per test image (columns target, image, present, score), as a table of Arrow's,
            which travels well.
        environment: where that was measured.
    """

    result: EpisodeResult
    scores: pa.Table
    environment: Environment

    def contended(self, contended: bool) -> Measured:
        """The same, its cost saying whether other episodes ran on the same processor meanwhile."""
        if self.result.cost is None:
            return self
        cost = self.result.cost.model_copy(update={"contended": contended})
        return replace(self, result=self.result.model_copy(update={"cost": cost}))


class _Kept(BaseModel):
    """The line of a finished episode; its scores are a table of Arrow's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    result: EpisodeResult
    environment: Environment
    scores: Base64Bytes


class RecordStore:
    """The records in a folder, as `TRACK/TASK/SUBMISSION@BACKBONE@seedN@DEVICE.json`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path_of(self, identity: Identity) -> Path:
        """Where the record of this identity is kept; its scores lie beside it as `.parquet`."""
        backbone = identity.backbone.replace("/", "-") + ("-untrained" * identity.untrained)
        name = f"{identity.submission}@{backbone}@seed{identity.seed}@{identity.device}"
        name += ".json" if identity.isolation == "process" else f"@{identity.isolation}.json"
        return self._root / identity.track / identity.task / name

    def save(self, record: Record, scores: pd.DataFrame) -> Path:
        """Write the scores, then the record that names their hash; the record's path.

        What there was of its unfinished run is removed.

        Raises:
            AttnbenchError: where the folder cannot be written; earlier records stay whole.
        """
        path = self.path_of(record.identity)
        table = _parquet(scores)
        hashed = {
            "scores_file": path.with_suffix(".parquet").name,
            "scores_sha256": hashlib.sha256(table).hexdigest(),
        }
        whole = Record.model_validate(record.model_dump() | hashed)
        unfinished = self.partial(record.identity).folder
        write_atomically(path.with_suffix(".parquet"), table, unfinished)
        write_atomically(path, whole.model_dump_json(indent=1).encode(), unfinished)
        self.partial(record.identity).discard()
        return path

    def read(self, path: Path) -> Record:
        """The record in a file. Raises AttnbenchError naming the file, and what is wrong with it."""
        try:
            if path.stat().st_size > _LIMIT:
                raise AttnbenchError(f"{path}: larger than {_LIMIT >> 20} MiB; left out")
            text = path.read_bytes()
        except OSError as error:
            raise AttnbenchError(f"{path}: cannot be read ({error.strerror})") from None
        try:
            return Record.model_validate_json(text)
        except ValidationError as error:
            raise AttnbenchError(f"{path}: {_what_is_wrong(error)}") from None

    def paths(self) -> Iterator[Path]:
        """Where there may be a record, in the order of the paths."""
        for path in sorted(self._root.glob("*/*/*.json")):
            if not path.parts[len(self._root.parts)].startswith("."):
                yield path

    def load(self, path: Path) -> Record:
        """As `read`, of a file in the folder: a link must not lead out of it."""
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise AttnbenchError(f"{path}: a link out of the records folder; left out")
        return self.read(path)

    def load_all(self) -> tuple[list[tuple[Path, Record]], list[str]]:
        """All records in the order of their paths, and what is wrong with those left out."""
        records, problems = [], []
        for path in self.paths():
            try:
                records.append((path, self.load(path)))
            except AttnbenchError as error:
                problems.append(str(error))
        return records, problems

    def find(self, identity: Identity) -> tuple[Path, Record] | None:
        """The record of exactly this identity, if it is there, whole, with its scores."""
        path = self.path_of(identity)
        try:
            record = self.read(path)
            scores = path.with_suffix(".parquet").read_bytes()
        except (AttnbenchError, OSError):
            return None
        intact = hashlib.sha256(scores).hexdigest() == record.scores_sha256
        return (path, record) if intact and record.identity == identity else None

    def partial(self, identity: Identity) -> PartialRun:
        """What is already there of an interrupted run of this identity."""
        return PartialRun(self._root / _PARTIAL / _key(identity))

    @contextlib.contextmanager
    def claim(self, identity: Identity, *, wait: bool = True) -> Iterator[bool]:
        """Only one process at a time makes the record of an identity: whether it is this one's.

        Args:
            identity: of the record.
            wait: for who makes it now; otherwise False is given where there is someone.

        Raises AttnbenchError where the folder cannot be written.
        """
        path = self._root / _PARTIAL / f"{_key(identity)}.lock"
        try:
            lock = _lock(path, wait=wait)
        except OSError as error:
            raise AttnbenchError(f"cannot write {path} ({error.strerror})") from None
        try:
            yield lock is not None
        finally:
            if lock is not None:
                path.unlink(missing_ok=True)
                os.close(lock)
                with contextlib.suppress(OSError):
                    path.parent.rmdir()  # where this was the last unfinished run


@dataclass(frozen=True)
class PartialRun:
    """The finished episodes of a run that has not ended: a file with a line for each."""

    folder: Path

    def finished(self) -> dict[str, Measured]:
        """The finished episodes by target; a damaged one is as if it had not been run."""
        found: dict[str, Measured] = {}
        with contextlib.suppress(FileNotFoundError), self._file.open("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, pa.ArrowException):
                    kept = _Kept.model_validate_json(line)
                    scores = pa.ipc.open_stream(kept.scores).read_all()
                    found[kept.result.target] = Measured(kept.result, scores, kept.environment)
        return found

    def add(self, measured: Measured) -> None:
        """Keep a finished episode. Raises AttnbenchError where there is no room."""
        buffer = io.BytesIO()
        with pa.ipc.new_stream(buffer, measured.scores.schema) as stream:
            stream.write_table(measured.scores)
        scores = base64.b64encode(buffer.getvalue())
        kept = _Kept(result=measured.result, environment=measured.environment, scores=scores)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                # The line break comes first: half a line that a killed run left stays apart.
                file.write(b"\n" + kept.model_dump_json().encode())
        except OSError as error:
            raise _cannot_write(self._file, error) from None

    @property
    def _file(self) -> Path:
        return self.folder / "episodes.jsonl"

    def discard(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _key(identity: Identity) -> str:
    return hashlib.sha256(identity.model_dump_json().encode()).hexdigest()


def _lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor of the locked file, made if need be; waits for who holds it, or gives None."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # the folder has just been removed by who was last in it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(lock)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        os.close(lock)  # who held it has removed it: another file has that name now, or none


def write_atomically(path: Path, content: bytes, unfinished: Path) -> None:
    """Write a file so that at every moment it is the old one or the new one, never a part.

    Args:
        path: where it goes.
        content: its bytes.
        unfinished: a folder on the same file system for what is not whole yet.

    Raises:
        AttnbenchError: where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=unfinished, prefix=".", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> AttnbenchError:
    return AttnbenchError(
        f"cannot write {path} ({error.strerror}); what was written before is whole: "
        "make room or choose another folder with --records, and run the same command again"
    )


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _what_is_wrong(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if key == "schema_version":
        return (
            f"schema version {str(first['input'])[:20]!r}, this attnbench reads {SCHEMA_VERSION}; "
            "upgrade attnbench to use it; left out"
        )
    return f"not a whole record ({key + ': ' if key else ''}{first['msg']}); left out"
