"""Runs that are killed, run twice at a time, or on a full disk lose nothing and leave nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from attnbench.records.record import Record
from attnbench.records.scores import read_scores

COMMAND = [sys.executable, "-m", "attnbench", "evaluate", "bias_only", "--task", "noisy-mnist"]


def start(folder: Path) -> subprocess.Popen[str]:
    """Start a run with its records in `folder`/records and its temporary files in `folder`/tmp."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def untimed_results(folder: Path) -> tuple[pd.DataFrame, dict[str, object]]:
    """The scores and the summary without times of the only record in a folder."""
    (path,) = (folder / "records").glob("mini/*/*.json")
    record = json.loads(path.read_text())
    summary = {
        name: value
        for name, value in record["summary"].items()
        if not any(part in name for part in ("seconds", "passes", "memory")) and name != "contended"
    }
    return read_scores(path, Record.model_validate_json(path.read_text())).to_pandas(), summary


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the record of a run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder).wait() == 0
    return folder


def assert_as_undisturbed(folder: Path, undisturbed: Path) -> None:
    """Assert that the record is that of an undisturbed run, and that nothing else is left."""
    scores, summary = untimed_results(folder)
    expected_scores, expected_summary = untimed_results(undisturbed)
    pd.testing.assert_frame_equal(scores, expected_scores, check_exact=True)
    assert summary == expected_summary
    files = [path for path in (folder / "records").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".parquet"} and len(files) == 3, files
    deadline = time.monotonic() + 20
    while os.listdir(folder / "tmp") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert os.listdir(folder / "tmp") == []
    assert not _processes_of(folder)


def _processes_of(folder: Path) -> list[psutil.Process]:
    """Processes with their working folder or their folder for temporary files in `folder`."""
    processes = []
    for process in psutil.process_iter():
        try:
            folders = (process.cwd(), process.environ().get("TMPDIR", ""))
        except (psutil.Error, OSError):
            continue
        if any(path.startswith(str(folder)) for path in folders):
            processes.append(process)
    return processes


def kill_at_random(run: subprocess.Popen[str], folder: Path, rng: random.Random) -> None:
    """Send SIGKILL to the evaluator, to another process of the run, or to all of them."""
    victim = rng.choice(["evaluator", "other", "all"])
    processes = _processes_of(folder)
    if victim == "other" and len(processes) > 1:
        processes = [rng.choice([process for process in processes if process.pid != run.pid])]
    elif victim == "evaluator":
        processes = [psutil.Process(run.pid)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def disturb(folder: Path, undisturbed: Path, kills: int, seed: int) -> None:
    """Kill runs at random moments and start each of them again, until one is left undisturbed."""
    rng = random.Random(seed)
    for _ in range(kills):
        run = start(folder)
        time.sleep(rng.uniform(0.3, 11.0))
        kill_at_random(run, folder, rng)
        # A run goes on if only one of its workers was killed.
        assert run.wait(timeout=120) in (0, 2, -signal.SIGKILL)
        if list((folder / "records").glob("mini/*/*.json")):
            assert_as_undisturbed(folder, undisturbed)
            shutil.rmtree(folder / "records")
    assert start(folder).wait() == 0
    assert_as_undisturbed(folder, undisturbed)


@pytest.mark.slow
def test_run_killed_at_a_random_moment_gives_the_same_results(
    tmp_path: Path, undisturbed: Path
) -> None:
    disturb(tmp_path, undisturbed, kills=1, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_run_killed_a_hundred_times_gives_the_same_results(
    tmp_path: Path, undisturbed: Path
) -> None:
    disturb(tmp_path, undisturbed, kills=100, seed=2)


def test_killed_run_resumes_from_its_finished_episodes(tmp_path: Path, undisturbed: Path) -> None:
    run = start(tmp_path)
    assert run.stderr is not None
    assert any(line.startswith("[3/10") for line in run.stderr)
    run.kill()
    run.communicate()
    finished = list((tmp_path / "records" / ".partial").glob("*/*.arrow"))
    assert len(finished) >= 3
    # A file that the run had not written completely counts as an episode that was not run.
    finished[0].write_bytes(finished[0].read_bytes()[:-100])
    run = start(tmp_path)
    log = run.communicate()[1]
    assert run.returncode == 0, log
    assert log.count(": ok") == 10 - len(finished) + 1
    assert_as_undisturbed(tmp_path, undisturbed)


def test_two_runs_at_a_time_share_the_work(tmp_path: Path, undisturbed: Path) -> None:
    runs = [start(tmp_path), start(tmp_path)]
    logs = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], logs
    assert_as_undisturbed(tmp_path, undisturbed)
    judged = sum(line.endswith(": ok") for log in logs for line in log.splitlines())
    assert judged == 10  # each episode once, by one of the runs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB, which only root can create."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_is_an_error_that_leaves_earlier_records_intact(
    tmp_path: Path, small_disk: Path, undisturbed: Path
) -> None:
    records = small_disk / "records"
    shutil.copytree(undisturbed / "records", records)
    before = {path: path.read_bytes() for path in records.rglob("*") if path.is_file()}
    (small_disk / "ballast").write_bytes(bytes(20_000))
    with open(small_disk / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(1024))
    on_full_disk = subprocess.run(
        [*COMMAND[:4], "none", *COMMAND[5:], "--records", str(records)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert on_full_disk.returncode == 2, on_full_disk.stderr
    assert "No space left" in on_full_disk.stderr and "Traceback" not in on_full_disk.stderr
    assert {path: path.read_bytes() for path in before} == before
