"""The job queue of the slurm engine: jobs move through it once, and its folder is cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from attnbench.engines.engine import Job
from attnbench.engines.job_queue import JobQueue


def test_each_job_is_taken_once_and_its_result_is_read_once(tmp_path: Path, job: Job) -> None:
    with JobQueue.create(tmp_path) as queue:
        for name in ("2", "1"):
            queue.put(name, job)
        assert queue.waiting() == 2
        assert queue.take("task-a") == ("1", job)
        assert queue.take("task-b") == ("2", job)
        assert queue.take("task-a") is None and queue.waiting() == 0
        queue.finish("1", "result")
        assert list(queue.results()) == [("1", "result")]
        assert list(queue.results()) == []


def test_jobs_of_an_ended_task_can_be_taken_again(tmp_path: Path, job: Job) -> None:
    with JobQueue.create(tmp_path) as queue:
        for name in ("1", "2"):
            queue.put(name, job)
        queue.take("task-a")
        queue.take("task-b")
        queue.put_back("task-a", ["1", "2"])
        assert queue.take("task-c") == ("1", job)  # the other job is still in the hands of task-b
        assert queue.take("task-c") is None


def test_queue_is_removed_at_the_end(tmp_path: Path, job: Job) -> None:
    parent = tmp_path / ".engine"
    with JobQueue.create(parent) as queue:
        assert queue.has_owner() and queue.folder.parent == parent
        queue.put("1", job)
    assert not queue.has_owner()
    assert not parent.exists()


def start_engine(parent: Path) -> tuple[subprocess.Popen[str], JobQueue]:
    """Start a process that owns a queue until it is ended."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from attnbench.engines.job_queue import JobQueue\n"
        "with JobQueue.create(Path(sys.argv[1])) as queue:\n"
        "    print(queue.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    engine = subprocess.Popen(
        [sys.executable, "-c", code, str(parent)], stdout=subprocess.PIPE, text=True
    )
    assert engine.stdout is not None
    return engine, JobQueue(Path(engine.stdout.readline().strip()))


def test_new_queue_removes_those_of_killed_engines_only(tmp_path: Path) -> None:
    engine, other_queue = start_engine(tmp_path)
    assert other_queue.has_owner()
    with JobQueue.create(tmp_path) as queue:
        assert queue.folder != other_queue.folder
        assert other_queue.has_owner() and (other_queue.folder / "todo").is_dir()
    assert other_queue.has_owner() and (other_queue.folder / "todo").is_dir()
    engine.send_signal(signal.SIGKILL)
    engine.communicate()
    assert other_queue.folder.is_dir() and not other_queue.has_owner()
    with JobQueue.create(tmp_path) as queue:
        assert not other_queue.folder.exists()
        assert os.listdir(tmp_path) == [queue.folder.name]


def test_new_queue_removes_one_whose_removal_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "slurm-abc" / "done").mkdir(parents=True)  # its lock file is gone already
    with JobQueue.create(tmp_path) as queue:
        assert os.listdir(tmp_path) == [queue.folder.name]


def test_queues_of_one_process_do_not_remove_each_other(tmp_path: Path) -> None:
    with JobQueue.create(tmp_path) as first, JobQueue.create(tmp_path) as second:
        assert first.has_owner() and second.has_owner()
        assert sorted(os.listdir(tmp_path)) == sorted([first.folder.name, second.folder.name])
