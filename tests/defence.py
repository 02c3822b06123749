"""What a defence of the judge is, for the tables of `test_defences.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.exploit_judge import TIMEOUT

Weaken = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Defence:
    """A defence, or several where each alone would stop the exploits.

    Attributes:
        name: what the judge does about the exploits.
        stops: the exploits, which work once the defence is taken out.
        sandbox: take it out of the fork server and its workers (see `weakened_sandbox`).
        opening: takes it out of the judge before the judge is opened (see `weakened_judge`).
        judge: takes it out of the judge while an episode is judged (see `weakened_judge`).
        shows: a pattern for the sign that an exploit has worked; None for the usual sign of its
            outcome (see `test_defences.SIGNS`).
        timeout: of an adaptation, in seconds.
        reopen: whether each exploit needs a new judge, because the last one may have spoilt it.
    """

    name: str
    stops: tuple[str, ...]
    sandbox: tuple[Callable[[], None], ...] = ()
    opening: Weaken | None = None
    judge: Weaken | None = None
    shows: str | None = None
    timeout: float = TIMEOUT
    reopen: bool = False
