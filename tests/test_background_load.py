"""Other work is what no process below this one does."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from attnbench.judge.background_load import BackgroundLoad, _seconds_below, _seconds_of_others

BUSY = "import time\nwhile time.process_time() < 0.5: pass"


def test_what_a_process_below_this_one_did_counts_as_own_after_its_end_too() -> None:
    before = _seconds_below(psutil.Process())
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert _seconds_below(psutil.Process()) - before >= 0.4


def test_what_an_orphan_does_counts_as_others() -> None:
    watched, before, began = BackgroundLoad(), _seconds_of_others(), time.monotonic()
    # A shell that ends at once leaves it to the system; its output is open until it ends.
    shell = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" &', sys.executable, BUSY], stdout=subprocess.PIPE, check=True
    )
    assert shell.returncode == 0
    passed = time.monotonic() - began
    assert _seconds_of_others() - before >= 0.4
    if len(os.sched_getaffinity(0)) == psutil.cpu_count():
        assert watched.share() == pytest.approx(
            (_seconds_of_others() - before) / passed / (psutil.cpu_count() or 1), abs=0.1
        )
    assert 0 <= watched.share() <= 1
