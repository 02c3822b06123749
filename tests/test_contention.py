"""Times taken beside other work are marked, measured again once it has ended, and rank nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from picture_files import write_classes

import attnbench
from attnbench.commands.new_task import new_task
from attnbench.judge.background_load import BackgroundLoad
from attnbench.records.record import Cost, Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.runs import retiming
from attnbench.runs.events import Event, Noted

BUSY = "while True: pass"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task of two targets on pictures that are made up."""
    pictures = write_classes(tmp_path / "pictures", {"cat": 12, "dog": 12})
    return new_task("pets", pictures, backbone="shipped/digits-cnn", parent=tmp_path).path


@pytest.fixture
def all_cores() -> Iterator[None]:
    """Let methods use every core. Of two cores, Linux leaves a method with one thread one to itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield
    torch.set_num_threads(before)


@contextmanager
def other_work() -> Iterator[None]:
    """Keep all cores busy with processes that are not descendants of this one."""
    # The shell ends at once, so init adopts its children. They print their process IDs first.
    start = " ".join(['"$0" -c "$1" > /dev/null & echo $!;'] * len(os.sched_getaffinity(0)))
    shell = subprocess.run(
        ["sh", "-c", start, sys.executable, BUSY], stdout=subprocess.PIPE, text=True, check=True
    )
    try:
        yield
    finally:
        for process in shell.stdout.split():
            os.kill(int(process), 9)


def evaluate(
    task: Path, records: Path, on_event: Callable[[Event], None] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Evaluate a method on a task. Return the rows and the notes."""
    notes: list[str] = []

    def show(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.text)
        if on_event is not None:
            on_event(event)

    frame = attnbench.evaluate("prototype", tasks=task, records=records, fresh=True, on_event=show)
    return frame, [note for note in notes if note.startswith("other work")]


def costs_of(record: Record) -> list[Cost]:
    return [episode.cost for episode in record.episodes if episode.cost is not None]


@pytest.mark.real_load
@pytest.mark.usefixtures("all_cores")
def test_times_beside_other_work_are_marked_and_rank_nobody(tmp_path: Path, task: Path) -> None:
    with other_work():
        frame, notes = evaluate(task, tmp_path / "records")
    record = RecordStore(tmp_path / "records").load_all()[0][0][1]
    assert [cost.contended for cost in costs_of(record)] == [True, True]
    assert frame["adaptation_seconds"].isna().all() and frame["d_prime"].notna().all()
    assert notes == [
        "other work used the CPU while 2 episodes ran; 2 excluded from rankings: use "
        "--timing-only on an idle machine"
    ]


@pytest.mark.real_load
def test_load_is_told_from_own_work() -> None:
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    load = BackgroundLoad()
    subprocess.run([sys.executable, "-c", busy], check=True)
    own = load.share()
    load = BackgroundLoad()
    with other_work():
        time.sleep(0.5)
        assert load.is_contended() and load.share() > max(0.3, own)
    # Cores that this process has no use for may be busy.
    load = BackgroundLoad(threads=1)
    assert load.share() <= 1


def test_contended_episodes_are_timed_again_once_the_machine_is_quiet(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other work disturbs everything but what is timed again.
    timed_again = False

    def is_quiet() -> bool:
        nonlocal timed_again
        timed_again = True
        return True

    monkeypatch.setattr(BackgroundLoad, "is_contended", lambda _: not timed_again)
    monkeypatch.setattr(retiming, "is_quiet", is_quiet)
    frame, notes = evaluate(task, tmp_path / "records")
    path, record = RecordStore(tmp_path / "records").load_all()[0][0]
    assert [cost.contended for cost in costs_of(record)] == [False, False]
    assert frame["adaptation_seconds"].notna().all() and len(read_scores(path, record)) > 0
    assert notes == ["other work used the CPU while 2 episodes ran; 2 timed again"]


def test_nothing_is_timed_again_without_need(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiming, "retime_records", None)
    frame, notes = evaluate(task, tmp_path / "records")
    assert notes == [] and frame["adaptation_seconds"].notna().all()
