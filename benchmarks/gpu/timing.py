"""(b) The questions of the timing protocol (docs/timing.md) on the device."""

from __future__ import annotations

from benchmarks.gpu.charges import rehearsal, repeats, second_job, side_streams
from benchmarks.gpu.clocks import clocks, events, warm_up
from benchmarks.gpu.part import Measured, Part, Sizes

_WARM_UP = "warm-up"
_QUESTIONS = {
    _WARM_UP: warm_up,
    "events": events,
    "side streams": side_streams,
    "repeats": repeats,
    "clocks": clocks,
    "a second job": second_job,
    "rehearsal": rehearsal,
}


def _items(sizes: Sizes) -> list[str]:
    return list(_QUESTIONS)


def _measure(item: str, sizes: Sizes, seconds: float) -> Measured:
    return _QUESTIONS[item](sizes, seconds)


TIMING = Part(
    "timing",
    "(b) The timing protocol",
    0.28,
    _items,
    _measure,
    in_new_process=frozenset({_WARM_UP}),
)
