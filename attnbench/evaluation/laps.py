"""Where the time of an episode goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Laps:
    """A watch that says how long each phase took: `with laps("counting"): …`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add what the block takes to the seconds of `phase`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[phase] = self.seconds.get(phase, 0.0) + spent
