"""Which records and episodes of a run exist already, and why others are made again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from attnbench.errors import AttnbenchError
from attnbench.records.outcome import SCORES_SCHEMA, EpisodeOutcome
from attnbench.records.record import EpisodeResult, Identity, Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.runs.planning import Plan


class ExistingRecords:
    """What exists already of the records of a run, when the run begins.

    Args:
        store: where records are kept.
        plans: the records of the run.
        fresh: whether to make all of them again, without the finished episodes of earlier runs.
        retry_failed: whether failures run again.

    Attributes:
        used: the records that are used as they are.
        retried: the records whose failures run again. Their other episodes are kept.
    """

    def __init__(
        self, store: RecordStore, plans: Sequence[Plan], *, fresh: bool, retry_failed: bool
    ) -> None:
        self._store = store
        self._plans = plans
        self._fresh = fresh
        self._retry_failed = retry_failed
        self.used: dict[Identity, tuple[Path, Record]] = {}
        self.retried: dict[Identity, tuple[Path, Record]] = {}
        for plan in plans:
            if fresh:
                store.partial(plan.identity).discard()
            elif (found := self._find(plan)) is not None:
                is_retried = retry_failed and found[1].status == "failed"
                (self.retried if is_retried else self.used)[plan.identity] = found

    def made_since(self, plan: Plan) -> tuple[Path, Record] | None:
        """Return the record of a plan if another run has made it since this run began."""
        found = None if self._fresh else self._find(plan)
        return None if found == self.retried.get(plan.identity) else found

    def finished(self, plan: Plan) -> dict[str, EpisodeResult]:
        """Return the results of a plan that exist already, by target.

        They come from an unfinished record, and from one whose failures run again.
        """
        results = [
            outcome.result for outcome in self._store.partial(plan.identity).finished().values()
        ]
        if plan.identity in self.retried:
            results += _not_failed(self.retried[plan.identity][1])
        return {
            result.target: result
            for result in results
            if result.target in plan.targets
            and plan.has_same_images(result)
            and not (self._retry_failed and result.status == "failed")
        }

    def restore(self, plan: Plan) -> None:
        """Turn the episodes of a record whose failures run again back into finished ones.

        The record itself stays until it is written anew.

        Args:
            plan: a plan of the run. Nothing happens if its failures do not run again.

        Raises:
            AttnbenchError: if the scores cannot be read, or an episode cannot be written.
        """
        if plan.identity not in self.retried:
            return
        path, record = self.retried[plan.identity]
        try:
            scores = read_scores(path, record).cast(SCORES_SCHEMA)
        except ValueError as error:
            raise AttnbenchError(f"{path}: {error}") from None
        for episode in _not_failed(record):
            own = scores.filter(pc.equal(scores["target"], pa.scalar(episode.target)))
            outcome = EpisodeOutcome(episode, own, record.environment)
            self._store.partial(plan.identity).add(outcome)

    def notes(self) -> Iterator[str]:
        """Yield what the user should know: which records are retried, and which are replaced."""
        if self.retried:
            count = f"{len(self.retried)} failed record{'s' * (len(self.retried) != 1)}"
            yield f"retrying {count} (--no-retry-failed keeps them)"
        if not self._fresh:
            yield from self._notes_of_replaced()

    def _find(self, plan: Plan) -> tuple[Path, Record] | None:
        """Return the record of a plan, unless the pictures have changed since."""
        found = self._store.find(plan.identity)
        if found is None or not all(map(plan.has_same_images, found[1].episodes)):
            return None
        return found

    def _notes_of_replaced(self) -> Iterator[str]:
        """Yield a sentence for each reason why existing records are replaced."""
        replaced: dict[str, list[Path]] = defaultdict(list)
        for plan in self._plans:
            path = self._store.path_of(plan.identity)
            if plan.identity in self.used or plan.identity in self.retried or not path.exists():
                continue
            try:
                old = self._store.read(path).identity
            except AttnbenchError:
                replaced["they cannot be read"].append(path)
                continue
            parts = [
                part
                for part in ("submission", "task", "backbone")
                if getattr(old, f"{part}_sha256") != getattr(plan.identity, f"{part}_sha256")
            ]
            if parts:
                reason = f"they are of another version of the {' and the '.join(parts)}"
                replaced[reason].append(path)
            elif self._store.find(plan.identity):
                replaced["the pictures have changed since"].append(path)
            else:
                replaced["their scores are missing or damaged"].append(path)
        for reason, paths in replaced.items():
            more = f" and {len(paths) - 1} more" * (len(paths) > 1)
            yield f"records are made again and replaced, as {reason}: {paths[0]}{more}"


def _not_failed(record: Record) -> list[EpisodeResult]:
    return [episode for episode in record.episodes if episode.status != "failed"]
