"""All engines give the same results, even if processes are killed, and mark contended times."""

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
from tests.engines.conftest import EPISODES, SUBMISSIONS, TARGETS, TASKS

AssertSame = Callable[[Path], None]


def kill_first(text: str, *, after: int) -> Callable[[Event], None]:
    """A callback that sends SIGKILL to a child process once.

    Args:
        text: the first child with this text in its command line is killed.
        after: the number of episodes that must have ended.
    """
    killed: list[int] = []

    def on_event(event: Event) -> None:
        if isinstance(event, EpisodeDone) and event.done == after and not killed:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if any(text in argument for argument in process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
                        return
            raise AssertionError(f"no process with {text} in its command line")

    return on_event


@pytest.fixture(scope="module")
def records_of_two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a run with two workers, one of which was killed after two episodes."""
    folder = tmp_path_factory.mktemp("two-workers")
    kill = kill_first("attnbench.engines.runner_process", after=2)
    frame = attnbench.evaluate(SUBMISSIONS, tasks=TASKS, records=folder, workers=2, on_event=kill)
    assert frame["adaptation_seconds"].isna().all() and frame["d_prime"].notna().all()
    return folder


def test_two_workers_give_the_same_results_even_if_one_is_killed(
    records_of_two_workers: Path, assert_same: AssertSame
) -> None:
    assert_same(records_of_two_workers)
    for path, record in RecordStore(records_of_two_workers).load_all()[0]:
        assert record.summary.contended == len(record.episodes) == TARGETS
        assert not contradictions(path, record)


def test_timing_only_times_contended_episodes_again(
    tmp_path: Path, records_of_two_workers: Path, assert_same: AssertSame
) -> None:
    shutil.copytree(records_of_two_workers, tmp_path, dirs_exist_ok=True)
    with pytest.raises(AttnbenchError, match="leave out --workers"):
        attnbench.evaluate(SUBMISSIONS, tasks=TASKS, records=tmp_path, workers=2, timing_only=True)
    with pytest.raises(AttnbenchError, match="no record of none on clear-digits"):
        attnbench.evaluate(["none"], tasks=TASKS, records=tmp_path, timing_only=True)
    frame = attnbench.evaluate(SUBMISSIONS, tasks=TASKS, records=tmp_path, timing_only=True)
    assert_same(tmp_path)
    assert frame["adaptation_seconds"].notna().all() and frame["adaptation_passes"].notna().all()
    for path, record in RecordStore(tmp_path).load_all()[0]:
        assert record.summary.contended == 0
        assert not contradictions(path, record)
        costs = [episode.cost for episode in record.episodes if episode.cost is not None]
        assert sum(cost.adaptation_seconds_cold is not None for cost in costs) == 1
    # There is nothing left to time, so records are not written again.
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    attnbench.evaluate(SUBMISSIONS, tasks=TASKS, records=tmp_path, timing_only=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start an evaluation with its records and its temporary files in a folder."""
    tasks = [argument for task in TASKS for argument in ("--task", task)]
    line = [sys.executable, "-m", "attnbench", "evaluate", *SUBMISSIONS, *tasks, *options]
    return subprocess.Popen(
        [*line, "--records", str(folder / "records")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(folder)},
        # A shell makes its background jobs, and all their children, ignore Ctrl-C.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that use a folder for their temporary files."""
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get("TMPDIR", "").startswith(str(folder)):
                processes.append(process)
    return processes


# It takes 1 to 3 s on an idle machine, but other tests may be running.
WAIT_SECONDS = 20.0
ENGINES = {
    "local": ["--workers", "2"],
    "slurm": ["--engine", "slurm", "--address", "local", "--workers", "2"],
    "ray": ["--engine", "ray", "--workers", "2"],
}


@pytest.mark.parametrize(
    "name",
    [name if name == "local" else pytest.param(name, marks=pytest.mark.slow) for name in ENGINES],
)
def test_ctrl_c_ends_all_processes_and_the_same_command_resumes(
    tmp_path_factory: pytest.TempPathFactory, name: str, assert_same: AssertSame
) -> None:
    pytest.importorskip({"slurm": "submitit"}.get(name, name) if name != "local" else "sys")
    # The names of Ray's sockets can have 107 characters at most.
    folder = tmp_path_factory.mktemp(name[0])
    run = start(folder, *ENGINES[name])
    assert run.stderr is not None
    assert any(line.startswith("[2/") for line in run.stderr)
    started = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    log = run.communicate()[1]
    assert time.monotonic() - started < WAIT_SECONDS
    assert run.returncode == 130 and "Traceback" not in log, log
    while (processes := processes_of(folder)) and time.monotonic() - started < WAIT_SECONDS:
        time.sleep(0.05)
    assert not processes
    finished = list((folder / "records").glob(".partial/*/*.arrow"))
    assert len(finished) >= 2
    resumed = start(folder, *ENGINES[name])
    log = resumed.communicate()[1]
    assert resumed.returncode == 0, log
    assert f"[1/{EPISODES - len(finished)}]" in log
    assert_same(folder / "records")


@pytest.mark.slow
def test_slurm_gives_the_same_results_when_a_task_is_killed(
    tmp_path: Path, assert_same: AssertSame
) -> None:
    pytest.importorskip("submitit")
    kill = kill_first("submitit.core._submit", after=2)
    attnbench.evaluate(
        SUBMISSIONS,
        tasks=TASKS,
        records=tmp_path,
        engine="slurm",
        address="local",
        workers=2,
        on_event=kill,
    )
    assert_same(tmp_path)


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="Slurm is installed")
def test_slurm_without_sbatch_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(AttnbenchError, match="no sbatch; --address local"):
        attnbench.evaluate(["none"], records=tmp_path, engine="slurm")


def test_unknown_engine_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AttnbenchError, match="the engines are local, ray, slurm"):
        attnbench.evaluate(["none"], records=tmp_path, engine="dask")  # type: ignore[arg-type]


@pytest.fixture
def cluster() -> Iterator[object]:
    """A Ray cluster of a head node without CPUs and two nodes with one CPU each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    cluster.wait_for_nodes()
    cluster.test_nodes = nodes
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_ray_gives_the_same_results_when_a_node_dies(
    tmp_path: Path, cluster: object, assert_same: AssertSame
) -> None:
    victim = cluster.test_nodes[1]  # type: ignore[attr-defined]
    done = []

    def on_event(event: Event) -> None:
        if isinstance(event, EpisodeDone):
            done.append(event)
            if len(done) == 2:
                # In a thread, because Ray waits for the node's processes to end.
                remove = cluster.remove_node  # type: ignore[attr-defined]
                threading.Thread(target=remove, args=(victim, False)).start()

    frame = attnbench.evaluate(
        SUBMISSIONS,
        tasks=TASKS,
        records=tmp_path,
        engine="ray",
        address=cluster.address,  # type: ignore[attr-defined]
        on_event=on_event,
    )
    assert len(done) == EPISODES
    assert_same(tmp_path)
    # Both nodes are on one machine, so their episodes share its CPU.
    assert frame["adaptation_seconds"].isna().all()
