"""Runs the parts, each within its share of the time, and writes every result at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from attnbench.devices import require_device
from attnbench.vocabulary import DeviceKind
from benchmarks.gpu.bubblewrap import BUBBLEWRAP
from benchmarks.gpu.helper import Helper, StepFailed
from benchmarks.gpu.memory import MEMORY
from benchmarks.gpu.methods import METHODS
from benchmarks.gpu.networks import NETWORKS
from benchmarks.gpu.part import Measured, Part, Sizes
from benchmarks.gpu.prediction import PREDICTION
from benchmarks.gpu.results import Failure, PartResult, machine_with, write
from benchmarks.gpu.timing import TIMING
from benchmarks.measured import Machine

# In order of value.
PARTS = (METHODS, TIMING, NETWORKS, MEMORY, BUBBLEWRAP, PREDICTION)
# What an item may take beyond the end of its part before its process is killed, and what a new process
# takes to start.
_GRACE_SECONDS, _START_SECONDS = 15.0, 120.0


def run(
    folder: Path,
    parts: Sequence[Part],
    device: DeviceKind,
    seconds: float,
    tell: Callable[[str], None],
) -> list[PartResult]:
    """Measure some parts.

    Args:
        folder: receives the results.
        parts: what to measure, in this order.
        device: what is measured.
        seconds: for all of them. Time that one does not need passes on to the others.
        tell: called with a line of text about what happens.

    Raises:
        AttnbenchError: if there is no such device, or a result cannot be written.
    """
    require_device(device)
    deadline = time.monotonic() + seconds
    results = []
    with Helper() as helper:
        machine = helper.call(machine_with, device, timeout=_START_SECONDS)
        tell(f"On {machine}.")
        for number, part in enumerate(parts):
            share = part.share / sum(each.share for each in parts[number:])
            box = share * max(0.0, deadline - time.monotonic())
            tell(f"{part.title}: {box:.0f} s")
            results.append(_Recorder(folder, part, machine, tell).measure(helper, device, box))
    return results


@dataclass
class _Recorder:
    """Measures one part, and writes its result after each item."""

    folder: Path
    part: Part
    machine: Machine
    tell: Callable[[str], None]
    measured: list[Measured] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def measure(self, helper: Helper, device: DeviceKind, box: float) -> PartResult:
        """Measure the items of the part, until its time is over."""
        started = time.monotonic()
        sizes = Sizes.on(device)
        items = self.part.items(sizes)
        for number, item in enumerate(items):
            left = started + box - time.monotonic()
            if left <= 0:
                return self._write(started, "out of time", items[number:])
            self._measure_item(helper, item, sizes, left, left / (len(items) - number))
            self._write(started, "running", items[number + 1 :])
        return self._write(started, "done", [])

    def _measure_item(
        self, helper: Helper, item: str, sizes: Sizes, left: float, seconds: float
    ) -> None:
        began = time.monotonic()
        try:
            is_new = item in self.part.in_new_process
            with Helper() if is_new else contextlib.nullcontext(helper) as used:
                measured = used.call(
                    self.part.measure, item, sizes, seconds, timeout=left + _GRACE_SECONDS
                )
        except StepFailed as failure:
            self.failures.append(
                Failure(item=item, reason=failure.reason, traceback=failure.traceback)
            )
            self.tell(f"  {item}: failed: {failure.reason}")
        else:
            self.measured.append(measured)
            self.tell(f"  {item}: {time.monotonic() - began:.1f} s")

    def _write(self, started: float, status: str, not_reached: list[str]) -> PartResult:
        result = PartResult(
            part=self.part.name,
            title=self.part.title,
            status=status,
            day=datetime.now(UTC).date().isoformat(),
            machine=self.machine,
            seconds=time.monotonic() - started,
            figures=tuple(figure for each in self.measured for figure in each.figures),
            remarks=tuple(remark for each in self.measured for remark in each.remarks),
            failures=tuple(self.failures),
            not_reached=tuple(not_reached),
        )
        write(self.folder, result)
        return result
