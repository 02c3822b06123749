"""Runs that are killed, run twice, or have no room left lose nothing and leave nothing."""

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

LINE = [sys.executable, "-m", "attnbench", "evaluate", "bias_only", "--task", "noisy-mnist"]


def start(folder: Path) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(
        LINE,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def figures(folder: Path) -> tuple[pd.DataFrame, dict[str, object]]:
    """The scores and the untimed figures of the one record in a folder."""
    (path,) = (folder / "records").glob("mini/*/*.json")
    record = json.loads(path.read_text())
    untimed = {
        k: v for k, v in record["summary"].items() if "seconds" not in k and "passes" not in k
    }
    return pd.read_parquet(path.with_suffix(".parquet")), untimed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder).wait() == 0
    return folder


def assert_as_undisturbed(folder: Path, undisturbed: Path) -> None:
    scores, summary = figures(folder)
    expected_scores, expected_summary = figures(undisturbed)
    pd.testing.assert_frame_equal(scores, expected_scores, check_exact=True)
    assert summary == expected_summary
    left = [p for p in (folder / "records").rglob("*") if p.is_file()]
    assert {p.suffix for p in left} == {".json", ".parquet"} and len(left) == 2, left
    deadline = time.monotonic() + 20
    while os.listdir(folder / "tmp") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert os.listdir(folder / "tmp") == []
    assert not _processes_of(folder)


def _processes_of(folder: Path) -> list[psutil.Process]:
    """Processes whose place for temporary files, or working folder, is in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            places = (process.cwd(), process.environ().get("TMPDIR", ""))
        except (psutil.Error, OSError):
            continue
        if any(place.startswith(str(folder)) for place in places):
            found.append(process)
    return found


def kill_something(run: subprocess.Popen[str], folder: Path, chance: random.Random) -> None:
    """kill -9 of the evaluator, of one of its processes, or of everything at once."""
    target = chance.choice(["evaluator", "one", "all"])
    processes = _processes_of(folder)
    if target == "one" and len(processes) > 1:
        processes = [chance.choice([p for p in processes if p.pid != run.pid])]
    elif target == "evaluator":
        processes = [psutil.Process(run.pid)]
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def disturb(folder: Path, undisturbed: Path, kills: int, seed: int) -> None:
    """Kill runs at random moments, each followed by the same command; anew when one is complete."""
    chance = random.Random(seed)
    for _ in range(kills):
        run = start(folder)
        time.sleep(chance.uniform(0.3, 11.0))
        kill_something(run, folder, chance)
        # Where it was a worker that died, the run goes on.
        assert run.wait(timeout=120) in (0, 2, -signal.SIGKILL)
        if list((folder / "records").glob("mini/*/*.json")):
            assert_as_undisturbed(folder, undisturbed)
            shutil.rmtree(folder / "records")
    assert start(folder).wait() == 0
    assert_as_undisturbed(folder, undisturbed)


def test_a_run_that_is_killed_again_and_again_gives_the_same_figures(
    tmp_path: Path, undisturbed: Path
) -> None:
    disturb(tmp_path, undisturbed, kills=1, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills_give_the_same_figures(tmp_path: Path, undisturbed: Path) -> None:
    disturb(tmp_path, undisturbed, kills=100, seed=2)


def test_two_runs_at_once_share_the_work(tmp_path: Path, undisturbed: Path) -> None:
    runs = [start(tmp_path), start(tmp_path)]
    told = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert_as_undisturbed(tmp_path, undisturbed)
    done = sum(line.endswith(": ok") for each in told for line in each.splitlines())
    assert done == 10  # each episode once, by one of them


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB; only the administrator can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no permission to make a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_says_so_and_harms_no_earlier_record(
    tmp_path: Path, small_disk: Path, undisturbed: Path
) -> None:
    records = small_disk / "records"
    shutil.copytree(undisturbed / "records", records)
    before = {path: path.read_bytes() for path in records.rglob("*") if path.is_file()}
    (small_disk / "ballast").write_bytes(bytes(20_000))
    with open(small_disk / "rest", "wb", buffering=0) as rest, suppress(OSError):
        while True:
            rest.write(bytes(1024))
    full = subprocess.run(
        [*LINE[:4], "none", *LINE[5:], "--records", str(records)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert full.returncode == 2, full.stderr
    assert "No space left" in full.stderr and "Traceback" not in full.stderr
    assert {path: path.read_bytes() for path in before} == before
    (small_disk / "ballast").unlink()
    (small_disk / "rest").unlink()
    again = subprocess.run([*LINE, "--records", str(records)], cwd=tmp_path, capture_output=True)
    assert again.returncode == 0
