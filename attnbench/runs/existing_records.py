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
        reopened: the records of which some episodes run again, or run for the first time. Their
            other episodes are kept.
    """

    def __init__(
        self, store: RecordStore, plans: Sequence[Plan], *, fresh: bool, retry_failed: bool
    ) -> None:
        self._store = store
        self._plans = plans
        self._fresh = fresh
        self._retry_failed = retry_failed
        self.used: dict[Identity, tuple[Path, Record]] = {}
        self.reopened: dict[Identity, tuple[Path, Record]] = {}
        for plan in plans:
            if fresh:
                for target in plan.requested:
                    store.partial(plan.identity).remove(target)
            found = None if fresh and plan.only is None else self._find(plan)
            if found is not None:
                is_used = self._is_used(plan, found[1])
                (self.used if is_used else self.reopened)[plan.identity] = found

    def made_since(self, plan: Plan) -> tuple[Path, Record] | None:
        """Return the record of a plan if another run has made it since this run began."""
        found = None if self._fresh else self._find(plan)
        return None if found == self.reopened.get(plan.identity) else found

    def finished(self, plan: Plan) -> dict[str, EpisodeResult]:
        """Return the results of a plan that exist already, by target.

        They come from an unfinished record, and from one that has been reopened.
        """
        results = [
            outcome.result for outcome in self._store.partial(plan.identity).finished().values()
        ]
        if plan.identity in self.reopened:
            results += self._kept(plan, self.reopened[plan.identity][1])
        return {
            result.target: result
            for result in results
            if result.target in plan.targets
            and plan.has_same_images(result)
            and not (self._retry_failed and result.status == "failed")
        }

    def restore(self, plan: Plan) -> None:
        """Turn the kept episodes of a reopened record back into finished ones.

        The record itself stays until it is written anew.

        Args:
            plan: a plan of the run. Nothing happens if its record has not been reopened.

        Raises:
            AttnbenchError: if the scores cannot be read, or an episode cannot be written.
        """
        if plan.identity not in self.reopened:
            return
        path, record = self.reopened[plan.identity]
        try:
            scores = read_scores(path, record).cast(SCORES_SCHEMA)
        except ValueError as error:
            raise AttnbenchError(f"{path}: {error}") from None
        for episode in self._kept(plan, record):
            own = scores.filter(pc.equal(scores["target"], pa.scalar(episode.target)))
            outcome = EpisodeOutcome(episode, own, record.environment)
            self._store.partial(plan.identity).add(outcome)

    def notes(self) -> Iterator[str]:
        """Yield what the user should know: which records are retried, and which are replaced."""
        retried = sum(record.status == "failed" for _, record in self.reopened.values())
        if retried and self._retry_failed and not self._fresh:
            count = f"{retried} failed record{'s' * (retried != 1)}"
            yield f"retrying {count} (--no-retry-failed keeps them)"
        if not self._fresh:
            yield from self._notes_of_replaced()

    def _is_used(self, plan: Plan, record: Record) -> bool:
        """Return whether nothing of a record needs to run."""
        if plan.only is None:
            # A record may lack targets, because the first two failed alike.
            return record.status != "failed" or not self._retry_failed
        return set(plan.only) <= {episode.target for episode in self._kept(plan, record)}

    def _kept(self, plan: Plan, record: Record) -> list[EpisodeResult]:
        """Return the episodes of a record that do not run again in this run."""
        return [
            episode
            for episode in record.episodes
            if not (self._retry_failed and episode.status == "failed")
            and not (self._fresh and episode.target in plan.requested)
        ]

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
            if plan.identity in self.used or plan.identity in self.reopened or not path.exists():
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
                reason = f"they were made with another version of the {' and the '.join(parts)}"
                replaced[reason].append(path)
            elif self._store.find(plan.identity):
                replaced["the pictures have changed since"].append(path)
            else:
                replaced["their scores are missing or damaged"].append(path)
        for reason, paths in replaced.items():
            more = f" and {len(paths) - 1} more" * (len(paths) > 1)
            yield f"records are made again and replaced, as {reason}: {paths[0]}{more}"
