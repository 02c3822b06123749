"""Measuring how long each phase of an episode takes, for diagnosis.

This is not the clock of adaptations, which is in `attnbench.judge.worker_session`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class PhaseTimer:
    """Adds up the seconds of named phases: `with timer.phase("counting"): …`.

    Attributes:
        seconds: the total of each phase so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the duration of the `with` block to the total of a phase.

        Args:
            name: the name of the phase.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
