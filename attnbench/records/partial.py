"""The finished episodes of a run that has not ended, so that it can resume."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from attnbench.files import write_atomically
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import Environment, EpisodeResult

_KEY = b"attnbench.outcome"


class _Described(BaseModel):
    """The contents of an episode's file besides its scores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    result: EpisodeResult
    environment: Environment


@dataclass(frozen=True)
class PartialRun:
    """A folder with an Arrow file per finished episode, each written completely or not at all.

    The scores are the file's table. The rest is JSON in the metadata of its schema.

    Attributes:
        folder: the folder, which may not exist yet.
    """

    folder: Path

    def finished(self) -> dict[str, EpisodeOutcome]:
        """Return the finished episodes by target. An episode with a damaged file counts as not run."""
        outcomes = {}
        for path in sorted(self.folder.glob("*.arrow")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, pa.ArrowException):
                outcome = _read(path.read_bytes())
                outcomes[outcome.result.target] = outcome
        return outcomes

    def add(self, outcome: EpisodeOutcome) -> None:
        """Keep a finished episode. Raises AttnbenchError if it cannot be written."""
        write_atomically(self._path_of(outcome.result.target), _encode(outcome), self.folder)

    def remove(self, target: str) -> None:
        """Remove the episode of a target, if there is one."""
        with contextlib.suppress(OSError):
            self._path_of(target).unlink()

    def discard(self) -> None:
        """Remove the folder and all finished episodes."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path_of(self, target: str) -> Path:
        # A target may have any name. Its hash is a valid file name.
        name = hashlib.sha256(target.encode()).hexdigest()
        return self.folder / f"{name[:32]}.arrow"


def _encode(outcome: EpisodeOutcome) -> bytes:
    described = _Described(result=outcome.result, environment=outcome.environment)
    table = outcome.scores.replace_schema_metadata({_KEY: described.model_dump_json()})
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as file:
        file.write_table(table)
    return buffer.getvalue()


def _read(content: bytes) -> EpisodeOutcome:
    table = pa.ipc.open_file(content).read_all()
    described = _Described.model_validate_json(table.schema.metadata[_KEY])
    return EpisodeOutcome(
        described.result, table.replace_schema_metadata(None), described.environment
    )
