"""The same figures from every engine, whatever ends in the middle; times that were alone, or say so."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import attnbench
from attnbench.errors import AttnbenchError
from attnbench.records.integrity import contradictions
from attnbench.records.store import RecordStore
from attnbench.runs.events import EpisodeDone, Event
from tests.engines.conftest import SUBMISSIONS, TASK

Same = Callable[[Path], None]


def kill_first(matching: str, *, after: int) -> Callable[[Event], None]:
    """When so many episodes have ended, kill -9 of a child process with this in its command line."""
    killed: list[int] = []

    def on_event(event: Event) -> None:
        if isinstance(event, EpisodeDone) and event.done == after and not killed:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if any(matching in part for part in process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
                        return
            raise AssertionError(f"no process with {matching}")

    return on_event


def test_two_at_a_time_give_the_same_and_say_that_they_shared(
    tmp_path: Path, assert_same: Same
) -> None:
    frame = attnbench.evaluate(SUBMISSIONS, tasks=[TASK], records=tmp_path, workers=2)
    assert_same(tmp_path)
    assert frame["adaptation_seconds"].isna().all() and frame["d_prime"].notna().all()
    for path, record in RecordStore(tmp_path).load_all()[0]:
        assert record.summary.contended == len(record.episodes) == 5
        assert not contradictions(path, record)


def test_a_process_that_is_killed_changes_nothing_but_the_time(
    tmp_path: Path, assert_same: Same
) -> None:
    kill = kill_first("attnbench.engines.runner_process", after=2)
    attnbench.evaluate(SUBMISSIONS, tasks=[TASK], records=tmp_path, workers=2, on_event=kill)
    assert_same(tmp_path)


def test_times_are_taken_again_alone(tmp_path: Path, one_by_one: Path, assert_same: Same) -> None:
    attnbench.evaluate(SUBMISSIONS, tasks=[TASK], records=tmp_path, workers=2)
    with pytest.raises(AttnbenchError, match="leave out --workers"):
        attnbench.evaluate(SUBMISSIONS, tasks=[TASK], records=tmp_path, workers=2, timing_only=True)
    with pytest.raises(AttnbenchError, match="no record of none"):
        attnbench.evaluate(["none"], tasks=[TASK], records=tmp_path, timing_only=True)
    frame = attnbench.evaluate(SUBMISSIONS, tasks=[TASK], records=tmp_path, timing_only=True)
    assert_same(tmp_path)
    assert frame["adaptation_seconds"].notna().all() and frame["adaptation_passes"].notna().all()
    for path, record in RecordStore(tmp_path).load_all()[0]:
        assert record.summary.contended == 0
        assert not contradictions(path, record)
        costs = [each.cost for each in record.episodes if each.cost is not None]
        assert len([each for each in costs if each.adaptation_seconds_cold is not None]) == 1
    untouched = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    attnbench.evaluate(SUBMISSIONS, tasks=[TASK], records=tmp_path, timing_only=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == untouched


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "attnbench", "evaluate", *SUBMISSIONS, "--task", TASK, *options]
    return subprocess.Popen(
        [*line, "--records", str(folder / "records")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(folder)},
        # A shell has its background jobs, and all they begin, ignore Ctrl-C.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )


def processes_with(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get("TMPDIR", "").startswith(str(folder)):
                found.append(process)
    return found


# On an idle machine it takes 1 to 3 s; other tests run beside this one.
WAIT_SECONDS = 20.0
ENGINES = {
    "local": ["--workers", "2"],
    "slurm": ["--engine", "slurm", "--address", "local", "--workers", "2"],
    "ray": ["--engine", "ray", "--workers", "2"],
}


@pytest.mark.parametrize(
    "name", [n if n == "local" else pytest.param(n, marks=pytest.mark.slow) for n in ENGINES]
)
def test_ctrl_c_ends_everything_and_the_same_command_resumes(
    tmp_path_factory: pytest.TempPathFactory, name: str, assert_same: Same
) -> None:
    pytest.importorskip({"slurm": "submitit"}.get(name, name) if name != "local" else "sys")
    # Ray's sockets have names of 107 characters at most.
    folder = tmp_path_factory.mktemp(name[0])
    run = start(folder, *ENGINES[name])
    assert run.stderr is not None
    assert any(line.startswith("[2/") for line in run.stderr)
    started = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    rest = run.communicate()[1]
    assert time.monotonic() - started < WAIT_SECONDS
    assert run.returncode == 130 and "Traceback" not in rest, rest
    while (left := processes_with(folder)) and time.monotonic() - started < WAIT_SECONDS:
        time.sleep(0.05)
    assert not left
    kept = (folder / "records").glob(".partial/*/episodes.jsonl")
    assert sum(len(path.read_bytes().splitlines()) - 1 for path in kept) >= 2
    again = start(folder, *ENGINES[name])
    told = again.communicate()[1]
    assert again.returncode == 0, told
    assert "[1/10]" not in told
    assert_same(folder / "records")


def test_slurm_gives_the_same_when_a_task_is_killed(tmp_path: Path, assert_same: Same) -> None:
    pytest.importorskip("submitit")
    kill = kill_first("submitit.core._submit", after=2)
    attnbench.evaluate(
        SUBMISSIONS,
        tasks=[TASK],
        records=tmp_path,
        engine="slurm",
        address="local",
        workers=2,
        on_event=kill,
    )
    assert_same(tmp_path)


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="Slurm is installed")
def test_slurm_where_there_is_none_is_named(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(AttnbenchError, match="no sbatch here; --address local"):
        attnbench.evaluate(["none"], records=tmp_path, engine="slurm")


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(AttnbenchError, match="the engines are local, ray and slurm"):
        attnbench.evaluate(["none"], records=tmp_path, engine="dask")


@pytest.fixture
def cluster() -> Iterator[object]:
    """A Ray cluster of a head without processors and two nodes of one each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    cluster.wait_for_nodes()
    cluster.test_nodes = nodes
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_ray_gives_the_same_when_a_node_dies(
    tmp_path: Path, cluster: object, assert_same: Same
) -> None:
    victim = cluster.test_nodes[1]  # type: ignore[attr-defined]
    done = []

    def on_event(event: Event) -> None:
        if isinstance(event, EpisodeDone):
            done.append(event)
            if len(done) == 2:
                # Ray waits for a node's processes to end; the run goes on meanwhile.
                remove = cluster.remove_node  # type: ignore[attr-defined]
                threading.Thread(target=remove, args=(victim, False)).start()

    frame = attnbench.evaluate(
        SUBMISSIONS,
        tasks=[TASK],
        records=tmp_path,
        engine="ray",
        address=cluster.address,  # type: ignore[attr-defined]
        on_event=on_event,
    )
    assert len(done) == 10
    assert_same(tmp_path)
    # Two nodes of one machine share its processor, whatever Ray calls them.
    assert frame["adaptation_seconds"].isna().all()
