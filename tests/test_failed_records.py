"""Failures in records: a run stops a record whose first targets fail alike, and retries failures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import attnbench
from attnbench.engines.engine import CompletedJob, Job
from attnbench.records.integrity import contradictions
from attnbench.records.outcome import EpisodeOutcome, scores_table
from attnbench.records.record import EpisodeResult, Measures, Record
from attnbench.records.store import RecordStore
from attnbench.runs.events import EpisodeDone, EpisodesLeftOut, Event, Noted, RecordWritten
from attnbench.runs.planning import Plan
from attnbench.runs.record_writer import make_records
from attnbench.statistics.detection import detect
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from attnbench.vocabulary import Status

TARGETS = ("ant", "bee", "cat", "dog", "eel")
Outcomes = dict[str, tuple[Status, str]]


@dataclass
class Run:
    """Runs of `make_records` on one plan, with an engine that judges nothing.

    Attributes:
        folder: the folder of records.
        made_up: a record that tells what to fill in.
        events: the events of the last run.
        judged: the targets that the last run judged.
    """

    folder: Path
    made_up: Record
    events: list[Event] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)

    def __call__(
        self,
        failures: Outcomes,
        *,
        ahead: int = 1,
        interrupt_after: int | None = None,
        **options: bool,
    ) -> Record:
        """Make the record and return it.

        Args:
            failures: the status and the reason of each target that does not succeed.
            ahead: how many jobs the engine takes at a time.
            interrupt_after: after how many episodes to raise a KeyboardInterrupt.
            options: of `make_records`.
        """
        self.events.clear()
        self.judged.clear()
        plan = Plan(
            submission=load_submission("none"),
            track=load_task("noisy-mnist").tracks["mini"],
            backbone="shipped/digits-cnn",
            targets=TARGETS,
            timeout=1.0,
            identity=self.made_up.identity,
        )

        def run_jobs(jobs: Iterable[Job]) -> Generator[CompletedJob]:
            taken: list[Job] = []
            for job in jobs:
                taken.append(job)
                if len(taken) == ahead:
                    yield from map(complete, taken)
                    taken.clear()
            yield from map(complete, taken)

        def complete(job: Job) -> CompletedJob:
            if len(self.judged) == interrupt_after:
                raise KeyboardInterrupt
            self.judged.append(job.target)
            return CompletedJob(job, [self._outcome(job.target, failures)])

        options = {"fresh": False} | options
        (row,) = make_records([plan], run_jobs, self.folder, report=self.events.append, **options)
        assert not list(self.folder.glob(".*"))
        path = Path(str(row["record"]))
        record = RecordStore(self.folder).read(path)
        assert contradictions(path, record) == []
        assert (row["status"], row["reason"]) == (record.status, record.reason)
        return record

    def _outcome(self, target: str, failures: Outcomes) -> EpisodeOutcome:
        environment = self.made_up.environment
        fields = {"target": target, "images_sha256": "1" * 64}
        if target in failures:
            status, reason = failures[target]
            result = EpisodeResult.model_validate(
                fields | {"status": status, "reason": reason, "detail": f"line 3\n{reason}"}
            )
            nothing = np.zeros(0)
            return EpisodeOutcome(result, scores_table(target, [], nothing, nothing), environment)
        # Another run draws other scores, so it shows which run an episode is from.
        scores = np.random.default_rng().normal(size=20).astype(np.float32)
        present = np.arange(20) < 10
        measures = Measures.of(detect(scores, present))
        result = EpisodeResult.model_validate(
            fields | {"status": "ok", "measures": measures, "cost": self.made_up.episodes[0].cost}
        )
        names = [f"image {n}" for n in range(20)]
        return EpisodeOutcome(result, scores_table(target, names, present, scores), environment)

    @property
    def notes(self) -> list[str]:
        """The notes of the last run."""
        return [event.text for event in self.events if isinstance(event, Noted)]


@pytest.fixture
def run(tmp_path: Path, make_record: Callable[..., Record]) -> Run:
    return Run(tmp_path / "records", make_record())


def all_fail(reason: str = "ValueError: no") -> Outcomes:
    return dict.fromkeys(TARGETS, ("failed", reason))


def scores_of(folder: Path) -> pd.DataFrame:
    (path,) = folder.rglob("*.json")
    return attnbench.scores(path)


def test_the_same_failure_on_the_first_two_targets_stops_a_record(run: Run) -> None:
    record = run(all_fail())
    assert run.judged == ["ant", "bee"] == [episode.target for episode in record.episodes]
    assert (record.status, record.not_run) == ("failed", 3)
    assert record.reason == (
        "stopped after the same failure on the first 2 of 5 targets: ValueError: no"
    )
    (left_out,) = [event for event in run.events if isinstance(event, EpisodesLeftOut)]
    assert left_out.count == 3
    done = [event for event in run.events if isinstance(event, EpisodeDone)]
    assert [(event.done, event.total) for event in done] == [(1, 5), (2, 5)]
    assert isinstance(run.events[-1], RecordWritten)


@pytest.mark.parametrize(
    "failures",
    [
        all_fail() | {"bee": ("failed", "ValueError: another")},
        {target: outcome for target, outcome in all_fail().items() if target != "ant"},
        {target: outcome for target, outcome in all_fail().items() if target != "bee"},
        dict.fromkeys(TARGETS, ("not applicable", "no labels")),
    ],
    ids=["other reason", "first is ok", "second is ok", "not applicable"],
)
def test_all_targets_run_after_anything_else(run: Run, failures: Outcomes) -> None:
    record = run(failures)
    assert run.judged == list(TARGETS) and record.not_run == 0


def test_all_targets_run_on_request(run: Run) -> None:
    record = run(all_fail(), keep_going=True)
    assert run.judged == list(TARGETS) and record.not_run == 0
    assert record.reason == "ValueError: no"


@pytest.mark.parametrize("ahead", [2, 3, 4, 9])
def test_episodes_that_an_engine_takes_early_stay_in_the_record(run: Run, ahead: int) -> None:
    record = run(all_fail() | {"cat": ("failed", "another")}, ahead=ahead)
    assert run.judged == list(TARGETS[:ahead])
    assert [episode.target for episode in record.episodes] == run.judged
    assert record.not_run == 5 - len(run.judged)


def test_failures_run_again_and_other_episodes_are_kept(run: Run) -> None:
    first = run({"bee": ("failed", "timeout"), "dog": ("not applicable", "no labels")})
    before = scores_of(run.folder)
    second = run({"dog": ("not applicable", "no labels")})
    assert run.judged == ["bee"]
    assert run.notes == ["retrying 1 failed record (--no-retry-failed keeps them)"]
    assert second.status == "not applicable"
    after = scores_of(run.folder)
    pd.testing.assert_frame_equal(after[after.target != "bee"].reset_index(drop=True), before)
    unchanged = [episode for episode in second.episodes if episode.target != "bee"]
    assert unchanged == [episode for episode in first.episodes if episode.target != "bee"]
    # "Not applicable" is no failure.
    assert run({}) == second and run.judged == [] and run.notes == []


def test_failures_are_kept_on_request(run: Run) -> None:
    first = run({"bee": ("failed", "timeout")})
    assert run({}, retry_failed=False) == first
    assert run.judged == [] and run.notes == []


def test_a_stopped_record_is_retried_with_all_its_targets(run: Run) -> None:
    run(all_fail())
    assert run({}).status == "ok"
    assert run.judged == list(TARGETS)


def test_a_retry_that_is_interrupted_resumes(run: Run) -> None:
    first = run({"bee": ("failed", "timeout"), "dog": ("failed", "memory")})
    with pytest.raises(KeyboardInterrupt):
        run({}, interrupt_after=1)
    (path,) = run.folder.rglob("*.json")
    assert RecordStore(run.folder).read(path) == first  # until there is a new one
    assert run({}).status == "ok"
    assert run.judged == ["dog"]


@pytest.mark.parametrize(("retry_failed", "judged"), [(True, "bee dog eel"), (False, "dog eel")])
def test_failures_of_an_interrupted_run_run_again(
    run: Run, retry_failed: bool, judged: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run({"bee": ("failed", "timeout")}, interrupt_after=3)
    run({}, retry_failed=retry_failed)
    assert run.judged == judged.split()


def test_a_record_made_by_another_run_meanwhile_is_used(run: Run) -> None:
    run({"bee": ("failed", "timeout")})
    other = Run(run.folder, run.made_up)
    report = run.events.append

    def make_it_first(event: Event) -> None:
        report(event)
        if isinstance(event, Noted):
            other({"bee": ("failed", "timeout again")})

    run.events = _Calls(make_it_first)
    record = run({})
    assert run.judged == [] and other.judged == ["bee"]
    assert "timeout again" in record.reason


class _Calls(list[Event]):
    """A list that calls a function in place of appending."""

    def __init__(self, function: Callable[[Event], None]) -> None:
        super().__init__()
        self.append = function  # type: ignore[method-assign]


def test_left_out_targets_need_two_equal_failures(run: Run) -> None:
    stopped = run(all_fail())
    complete = run({}, fresh=True)
    for record in (complete, stopped):
        first, *others = record.episodes
        changed = [first.model_copy(update={"detail": "elsewhere"}), *others]
        fields = record.model_dump() | {"not_run": 3, "episodes": changed}
        with pytest.raises(ValidationError, match="the first two did not fail alike"):
            Record.model_validate(fields)


def test_a_reason_that_hides_left_out_targets_contradicts_the_record(run: Run) -> None:
    stopped = run(all_fail())
    (path,) = run.folder.rglob("*.json")
    for change in ({"not_run": 2}, {"not_run": 0}, {"reason": "ValueError: no"}):
        problems = contradictions(path, stopped.model_copy(update=change))
        assert problems == ["its status is failed, which its episodes contradict"]
