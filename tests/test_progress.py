"""What is said of a run while it runs: on a terminal, in a log, to a machine, to another terminal."""

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
from attnbench.text import duration
from attnbench.runs import events
from attnbench.runs.status_file import StatusFile, RunState, TaskState

HAPPENINGS: list[events.Event] = [
    events.Planned({"t": 2, "u": 1}, (Path("records/a.json"),)),
    events.EpisodeStarted("s", "t", "cat"),
    events.EpisodeDone("s", "t", "cat", "ok", "", 1, 3),
    events.EpisodeDone("s", "t", "dog", "failed", "no\nluck", 2, 3),
    events.RecordWritten(Path("records/b.json")),
    events.EpisodeDone("s", "u", "\x1b[2J", "ok", "", 3, 3),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(how: str, stream: io.StringIO | None = None) -> list[str]:
    stream = io.StringIO() if stream is None else stream
    with display(how, stream) as show:
        for event in HAPPENINGS:
            show(event)
    return stream.getvalue().splitlines()


def test_a_log_has_a_line_for_each_episode_with_time_left_and_failures() -> None:
    lines = shown("auto")
    assert "--fresh" in lines[0]
    assert lines[1] == "[1/3] s, t, cat: ok"
    assert lines[2] == "[2/3, 0 s left, 1 failed] s, t, dog: failed: no luck"
    assert lines[3] == "[3/3, 1 failed] s, u, �[2J: ok"


def test_machines_get_an_object_for_each_event() -> None:
    objects = [json.loads(line) for line in shown("json")]
    assert [each["event"] for each in objects] == [
        "planned",
        "episode started",
        "episode done",
        "episode done",
        "record written",
        "episode done",
    ]
    assert objects[0]["episodes"] == {"t": 2, "u": 1}
    assert objects[3]["reason"] == "no\nluck" and objects[3]["status"] == "failed"


def test_bars_keep_failures_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    screen = "\n".join(shown("auto", Terminal()))
    assert "[2/3] s, t, dog: failed: no luck" in screen
    assert "1 failed" in screen and "all tasks" in screen


@given(st.floats(0, 1e7))
def test_durations_are_right_to_what_they_show(seconds: float) -> None:
    text = duration(seconds)
    numbers = [int(part) for part in text.split() if part.isdigit()]
    units = {"s": 1, "min": 60, "h": 3600}
    named = [units[part] for part in text.split() if part in units]
    said = sum(number * unit for number, unit in zip(numbers, named, strict=True))
    assert abs(said - seconds) <= named[-1] / 2 + 1e-6


def made_up_state(**changes: object) -> RunState:
    own = psutil.Process()
    state = {
        "process": own.pid,
        "began": own.create_time(),
        "host": os.uname().nodename,
        "engine": "local",
        "submissions": ("s",),
        "updated": 100.0,
    }
    return RunState.model_validate(state | changes)


def test_a_state_counts_and_tells_the_time_left() -> None:
    state = made_up_state()
    for second, event in enumerate(HAPPENINGS):
        state = state.after(event, 100.0 + 10 * second)
    assert state.tasks == {
        "t": TaskState(total=2, done=2, failed=1),
        "u": TaskState(total=1, done=1),
    }
    assert state.seconds_left == 0
    halfway = made_up_state().after(HAPPENINGS[0], 100.0).after(HAPPENINGS[2], 110.0)
    assert halfway.seconds_left is None
    halfway = halfway.after(HAPPENINGS[3], 130.0)
    assert halfway.seconds_left == pytest.approx(20.0)  # one left, and one takes 20 s
    assert halfway.is_alive
    assert made_up_state(began=1.0).is_alive is False  # the number is another process's now
    assert made_up_state(host="elsewhere").is_alive is None


def test_what_a_dead_run_left_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / ".runs"
    folder.mkdir()
    (folder / "dead.json").write_text(made_up_state(began=1.0).model_dump_json())
    (folder / ".tmpdead").write_bytes(b"half")
    (folder / "garbage.json").write_bytes(b"{")
    assert [run.is_alive for run in attnbench.status(tmp_path)] == [False]
    with StatusFile(tmp_path, "local", ["s"]) as announcement:
        announcement.hear(HAPPENINGS[0])
        (run,) = attnbench.status(tmp_path)
        assert run.is_alive and run.whole.total == 3
    assert not folder.exists()


def test_another_terminal_sees_a_run_and_that_it_was_killed(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "attnbench"]
    records = ["--records", str(tmp_path / "records")]
    run = subprocess.Popen(
        [*line, "evaluate", "none", "bias_only", "--task", "noisy-mnist", *records],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    assert any(text.startswith("[3/20") for text in run.stderr)
    run.send_signal(signal.SIGSTOP)
    asked = [*line, "status", *records]
    told = subprocess.run(asked, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert f"none, bias_only (local engine, process {run.pid} on " in told.stdout
    assert " of 20 episodes" in told.stdout and "noisy-mnist  " in told.stdout
    (state,) = map(
        json.loads, subprocess.run([*asked, "--json"], capture_output=True).stdout.splitlines()
    )
    assert state["alive"] and state["tasks"]["noisy-mnist"]["total"] == 20
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while "ended without a word" not in told.stdout and time.monotonic() < deadline:
        told = subprocess.run(asked, capture_output=True, text=True)
    assert "the same command resumes it" in told.stdout
    nothing = subprocess.run(
        [*line, "status", "--records", str(tmp_path)], capture_output=True, text=True
    )
    assert nothing.returncode == 0 and "no evaluation writes into" in nothing.stdout
