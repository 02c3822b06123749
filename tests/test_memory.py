"""The peak memory of an adaptation, as the kernel counts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import attnbench
from attnbench.judge.memory import PeakMemory
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from tests.conftest import SMALL_TASKS

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

MEBIBYTE = 1 << 20

# Holds `size` MiB for a moment, and lets go of them.
SPENDTHRIFT = """
    import numpy as np
    from torch import nn

    class Detector(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images)[:, 0]

    def adapt(backbone, pos, neg):
        np.ones({size} << 17)
        return Detector(backbone)
"""

PROCESS = """
import sys
print("ready", flush=True)
sys.stdin.readline()
block = bytearray({size} << 20)
block[::4096] = b"x" * len(block[::4096])
del block
print("done", flush=True)
sys.stdin.readline()
"""


def test_memory_that_was_given_back_counts_too() -> None:
    # The kernel adds pages to its counts in batches, so a count may lack a few.
    line = [sys.executable, "-c", PROCESS.format(size=201)]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        descriptor = os.pidfd_open(process.pid)
        memory = PeakMemory(descriptor)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        growth = memory.growth()
        assert growth is not None and 200 * MEBIBYTE <= growth < 300 * MEBIBYTE
        process.stdin.write("end\n")
        process.stdin.flush()
        process.wait()
        assert memory.growth() is None
        os.close(descriptor)


def test_records_tell_methods_apart_by_their_memory(
    tmp_path: Path, submission_folder: Callable[[str, str], Path]
) -> None:
    folders = [
        submission_folder(f"spends-{size}", SPENDTHRIFT.format(size=size)) for size in (1, 300)
    ]
    task = SMALL_TASKS / "clear-digits.toml"
    frame = attnbench.evaluate(folders, tasks=task, records=tmp_path)
    little, much = frame["peak_memory_bytes"]
    assert 250 * MEBIBYTE < much - little < 350 * MEBIBYTE
    records: list[Record] = [record for _, record in RecordStore(tmp_path).load_all()[0]]
    costs = [episode.cost for episode in records[0].episodes]
    assert all(cost is not None and cost.peak_memory_bytes is not None for cost in costs)
