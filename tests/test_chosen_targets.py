"""`--target`: some targets run, their episodes are kept, and the record comes with the last of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnbench
from attnbench.engines.engine import CompletedJob, Job, RunJobs
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.resource_cache import ResourceCache
from attnbench.records.integrity import read_scores
from attnbench.records.outcome import EpisodeOutcome, scores_table
from attnbench.records.record import EpisodeResult, Record
from attnbench.records.store import RecordStore
from attnbench.runs.chosen_targets import choose_targets
from attnbench.runs.chosen_tasks import choose_tasks
from attnbench.runs.events import Event, Noted

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

TASK = "imagenet-standard"
TARGETS = choose_tasks([TASK], None, None)[0].definition.targets
COUNT = len(TARGETS)


class MadeUpEngine:
    """An engine that judges nothing: the d′ of a target is its place among the targets.

    Args:
        record: a record to take everything else from.

    Attributes:
        ran: the targets that it was asked to run.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self.ran: list[str] = []

    @contextmanager
    def open(self, conditions: Conditions) -> Iterator[RunJobs]:
        yield lambda jobs: (CompletedJob(job, [self._judge(job)]) for job in jobs)

    def _judge(self, job: Job) -> EpisodeOutcome:
        self.ran.append(job.target)
        episode = self._record.episodes[0]
        assert episode.measures is not None
        measures = episode.measures.model_copy(update={"d_prime": TARGETS.index(job.target)})
        # The detail says how many episodes had run before.
        update = {"target": job.target, "measures": measures, "detail": f"{len(self.ran)}"}
        scores = scores_table(job.target, ["1", "2"], np.array([True, False]), np.array([1.5, 0.5]))
        return EpisodeOutcome(episode.model_copy(update=update), scores, self._record.environment)


class Runs:
    """Calls of `evaluate` that write into the same folder."""

    def __init__(self, folder: Path, engine: MadeUpEngine) -> None:
        self._folder = folder
        self._engine = engine

    def __call__(
        self, targets: Sequence[str] | None, *, fresh: bool = False
    ) -> tuple[dict[Hashable, Any], list[str], list[str]]:
        """Run once. Return the only row, the targets that ran, and the notes."""
        self._engine.ran.clear()
        notes = []

        def listen(event: Event) -> None:
            if isinstance(event, Noted):
                notes.append(event.text)

        frame = attnbench.evaluate(
            ["none"],
            tasks=[TASK],
            targets=targets,
            fresh=fresh,
            records=self._folder,
            engine=self._engine,
            on_event=listen,
        )
        (row,) = frame.to_dict("records")
        return row, [*self._engine.ran], notes


@pytest.fixture
def run(tmp_path: Path, make_record: Callable[..., Record]) -> Runs:
    """Runs `none` on the task, with its records in `tmp_path`."""
    return Runs(tmp_path, MadeUpEngine(make_record()))


def episodes_of(path: str) -> tuple[EpisodeResult, ...]:
    record = RecordStore(Path(path).parent).read(Path(path))
    assert [episode.target for episode in record.episodes] == list(TARGETS)
    targets = dict.fromkeys(read_scores(Path(path), record)["target"].to_pylist())
    assert list(targets) == list(TARGETS)
    return record.episodes


def test_a_record_is_written_once_its_last_target_has_run(tmp_path: Path, run: Runs) -> None:
    row, ran, notes = run([TARGETS[3], TARGETS[1]])
    assert ran == [TARGETS[1], TARGETS[3]]
    assert row["targets"] == 2 and row["d_prime"] == 2 and row["record"] is None
    assert "not complete yet: none on imagenet-standard" in notes[-1]
    assert "without --target" in notes[-1]
    assert not list(tmp_path.glob("mini/*/*"))

    row, ran, notes = run([TARGETS[1]])
    assert not ran and len(notes) == 1
    assert row["targets"] == 1 and row["d_prime"] == 1 and row["record"] is None

    row, ran, notes = run(None)
    assert ran == [TARGETS[0], TARGETS[2], *TARGETS[4:]] and not notes
    assert row["targets"] == COUNT and row["d_prime"] == (COUNT - 1) / 2
    assert len(episodes_of(row["record"])) == COUNT
    assert not (tmp_path / ".partial").exists()


def test_the_last_targets_may_be_named(run: Runs) -> None:
    run(TARGETS[:2])
    row, ran, notes = run(TARGETS[2:])
    assert ran == list(TARGETS[2:]) and not notes
    assert row["targets"] == COUNT - 2 and row["d_prime"] == (COUNT + 1) / 2
    assert len(episodes_of(row["record"])) == COUNT


def test_the_row_shows_the_named_targets_of_a_complete_record(run: Runs) -> None:
    complete, _, _ = run(None)
    row, ran, notes = run([TARGETS[4]])
    assert not ran and not notes
    assert row["record"] == complete["record"] and row["targets"] == 1 and row["d_prime"] == 4


def test_fresh_runs_the_named_targets_again_and_keeps_the_others(tmp_path: Path, run: Runs) -> None:
    run(TARGETS[:2])
    _, ran, notes = run([TARGETS[0]], fresh=True)
    assert ran == [TARGETS[0]] and "not complete yet" in notes[-1]

    path = run(None)[0]["record"]
    before = episodes_of(path)
    row, ran, notes = run([TARGETS[-1], TARGETS[-2]], fresh=True)
    assert ran == list(TARGETS[-2:]) and row["record"] == path and row["targets"] == 2 and not notes
    after = episodes_of(path)
    assert after[:-2] == before[:-2] and [episode.detail for episode in after[-2:]] == ["1", "2"]
    assert not (tmp_path / ".partial").exists()


def test_a_target_runs_on_the_tasks_that_have_it() -> None:
    resources = ResourceCache(None, untrained=True)
    tasks = choose_tasks([TASK, "noisy-mnist", "imagenet-a"], "mini", None)
    assert choose_targets(tasks, None, resources) == (tasks, [])

    chosen, notes = choose_targets(tasks, ["7", "3", "3"], resources)
    assert [(task.task.name, task.targets) for task in chosen] == [("noisy-mnist", ("3", "7"))]
    assert len(notes) == 2 and "--target 7: not on imagenet-standard, imagenet-a" in notes[0]

    chosen, notes = choose_targets(tasks, ["3", *TARGETS], resources)
    assert [task.targets for task in chosen] == [TARGETS, ("3",), TARGETS]
    assert f"--target {TARGETS[0]}: not on noisy-mnist" in notes[1]


def test_a_target_that_no_task_has_is_answered_with_the_nearest() -> None:
    resources = ResourceCache(None, untrained=True)
    tasks = choose_tasks([TASK, "noisy-mnist"], "mini", None)
    message = rf"'warm plane disc': did you mean warm plain disc\? \(known: {TARGETS[0]}, .*, 9\)"
    with pytest.raises(AttnbenchError, match=message):
        choose_targets(tasks, ["3", "warm plane disc"], resources)


def test_timing_only_is_of_all_targets() -> None:
    with pytest.raises(AttnbenchError, match="leave out --target"):
        attnbench.evaluate(["none"], targets=["3"], timing_only=True)
