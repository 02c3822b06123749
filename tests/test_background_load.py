"""The load of other work: CPU time of all processes but this one and its descendants."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from attnbench.judge.background_load import BackgroundLoad, _other_cpu_seconds, _tree_cpu_seconds

BUSY = "import time\nwhile time.process_time() < 0.5: pass"


def test_cpu_time_of_a_child_is_own_even_after_it_has_ended() -> None:
    before = _tree_cpu_seconds(psutil.Process())
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert _tree_cpu_seconds(psutil.Process()) - before >= 0.4


def test_cpu_time_of_children_that_nobody_waits_for_is_that_of_other_work() -> None:
    """The kernel adds a child's time to its parent's when it is waited for. See `docs/trust.md`."""
    ignoring = (
        "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nif os.fork():\n"
        "    try: os.wait()\n    except ChildProcessError: pass\nelse:\n"
        "    while time.process_time() < 0.5: pass\n"
    )
    before = _tree_cpu_seconds(psutil.Process())
    subprocess.run([sys.executable, "-c", ignoring], check=True)
    assert _tree_cpu_seconds(psutil.Process()) - before < 0.4


def test_cpu_time_of_an_orphan_is_that_of_other_work() -> None:
    load, before, started = BackgroundLoad(), _other_cpu_seconds(), time.monotonic()
    # The shell ends at once and leaves its child to init. `run` returns when the child has closed
    # its output, which is when it ends.
    shell = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" &', sys.executable, BUSY], stdout=subprocess.PIPE, check=True
    )
    assert shell.returncode == 0
    elapsed = time.monotonic() - started
    assert _other_cpu_seconds() - before >= 0.4
    if len(os.sched_getaffinity(0)) == psutil.cpu_count():
        assert load.share() == pytest.approx(
            (_other_cpu_seconds() - before) / elapsed / (psutil.cpu_count() or 1), abs=0.1
        )
    assert 0 <= load.share() <= 1
