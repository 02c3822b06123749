"""The progress of a run: on a terminal, in a log, as JSON, and seen from another terminal."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attnbench
from attnbench.cli.progress import display
from attnbench.runs import events
from attnbench.runs.status_file import RunState, StatusFile, TaskState
from attnbench.text import duration
from attnbench.vocabulary import ProgressStyle

# Two tasks, `t` with two episodes and `u` with five, four of which do not run. The second fails.
EVENTS: list[events.Event] = [
    events.Planned({"t": 2, "u": 5}, (Path("records/a.json"),)),
    events.EpisodeStarted("s", "t", "cat"),
    events.EpisodeDone("s", "t", "cat", "ok", "", 1, 7),
    events.EpisodeDone("s", "t", "dog", "failed", "no\nluck", 2, 7),
    events.RecordWritten(Path("records/b.json")),
    events.EpisodesLeftOut("s", "u", 4),
    events.EpisodeDone("s", "u", "\x1b[2J", "ok", "", 3, 3),
]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def displayed(style: ProgressStyle, stream: io.StringIO | None = None) -> list[str]:
    """The lines that a display writes for all events."""
    stream = io.StringIO() if stream is None else stream
    with display(style, stream) as show:
        for event in EVENTS:
            show(event)
    return stream.getvalue().splitlines()


def test_log_has_a_line_per_episode_with_time_left_and_failures() -> None:
    lines = displayed("auto")
    assert "--fresh" in lines[0]
    assert lines[1] == "[1/7] s, t, cat: ok"
    assert lines[2] == "[2/7, 0 s left, 1 failed] s, t, dog: failed: no luck"
    assert lines[3].startswith("s, u: the same failure on the first 2 targets; 4 targets not run")
    assert lines[4] == "[3/3, 1 failed] s, u, �[2J: ok"


def test_json_progress_has_an_object_per_event() -> None:
    objects = [json.loads(line) for line in displayed("json")]
    assert [event["event"] for event in objects] == [
        "planned",
        "episode started",
        "episode done",
        "episode done",
        "record written",
        "episodes left out",
        "episode done",
    ]
    assert objects[0]["episodes"] == {"t": 2, "u": 5}
    assert objects[3]["reason"] == "no\nluck" and objects[3]["status"] == "failed"


def test_bars_leave_failures_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    screen = "\n".join(displayed("auto", Terminal()))
    assert "[2/7] s, t, dog: failed: no luck" in screen
    assert "--keep-going" in screen and "3/3" in screen
    assert "1 failed" in screen and "all tasks" in screen and "loading networks" in screen


@given(st.floats(0, 1e7))
def test_durations_are_rounded_to_their_last_unit(seconds: float) -> None:
    text = duration(seconds)
    numbers = [int(part) for part in text.split() if part.isdigit()]
    seconds_of = {"s": 1, "min": 60, "h": 3600}
    units = [seconds_of[part] for part in text.split() if part in seconds_of]
    shown = sum(number * unit for number, unit in zip(numbers, units, strict=True))
    assert abs(shown - seconds) <= units[-1] / 2 + 1e-6


def run_state(**changes: object) -> RunState:
    """The state of a run in this process, with some fields replaced."""
    process = psutil.Process()
    state = {
        "process": process.pid,
        "began": process.create_time(),
        "host": os.uname().nodename,
        "engine": "local",
        "submissions": ("s",),
        "updated": 100.0,
    }
    return RunState.model_validate(state | changes)


def test_run_state_counts_episodes_and_estimates_the_time_left() -> None:
    state = run_state()
    for number, event in enumerate(EVENTS):
        state = state.after(event, 100.0 + 10 * number)
    assert state.tasks == {
        "t": TaskState(total=2, done=2, failed=1),
        "u": TaskState(total=1, done=1),
    }
    assert state.total == TaskState(total=3, done=3, failed=1)
    assert state.seconds_left == 0
    halfway = run_state().after(EVENTS[0], 100.0).after(EVENTS[2], 110.0)
    assert halfway.seconds_left is None
    halfway = halfway.after(EVENTS[3], 130.0)
    assert halfway.seconds_left == pytest.approx(
        100.0
    )  # five episodes are left, and one takes 20 s
    assert halfway.is_alive


def test_run_is_alive_only_if_its_process_is_the_one_that_wrote_the_state() -> None:
    assert run_state().is_alive
    assert run_state(began=1.0).is_alive is False  # another process has its process ID by now
    assert run_state(host="elsewhere").is_alive is None


def test_files_of_a_dead_run_are_removed_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / ".runs"
    folder.mkdir()
    (folder / "dead.json").write_text(run_state(began=1.0).model_dump_json())
    (folder / ".tmpdead").write_bytes(b"half")
    (folder / "garbage.json").write_bytes(b"{")
    assert [run.is_alive for run in attnbench.status(tmp_path)] == [False]
    with StatusFile(tmp_path, "local", ["s"]) as status_file:
        status_file.update(EVENTS[0])
        (run,) = attnbench.status(tmp_path)
        assert run.is_alive and run.total.total == 7
    assert not folder.exists()


def test_status_shows_a_run_from_another_terminal_and_that_it_was_killed(tmp_path: Path) -> None:
    attnbench_command = [sys.executable, "-m", "attnbench"]
    records = ["--records", str(tmp_path / "records")]
    run = subprocess.Popen(
        [*attnbench_command, "evaluate", "none", "bias_only", "--task", "noisy-mnist", *records],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    assert any(line.startswith("[3/20") for line in run.stderr)
    run.send_signal(signal.SIGSTOP)
    status_command = [*attnbench_command, "status", *records]
    status = subprocess.run(status_command, capture_output=True, text=True)
    assert status.returncode == 0, status.stderr
    assert f"none, bias_only (local engine, process {run.pid} on " in status.stdout
    assert " of 20 episodes" in status.stdout and "noisy-mnist  " in status.stdout
    as_json = subprocess.run([*status_command, "--json"], capture_output=True)
    (state,) = map(json.loads, as_json.stdout.splitlines())
    assert state["alive"] and state["tasks"]["noisy-mnist"]["total"] == 20
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while "ended unexpectedly" not in status.stdout and time.monotonic() < deadline:
        status = subprocess.run(status_command, capture_output=True, text=True)
    assert "run the same command to resume" in status.stdout
    without_runs = subprocess.run(
        [*attnbench_command, "status", "--records", str(tmp_path)], capture_output=True, text=True
    )
    assert without_runs.returncode == 0
    assert "no evaluation is writing into" in without_runs.stdout
