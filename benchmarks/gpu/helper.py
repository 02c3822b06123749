"""A process that measures, apart from the one that keeps the results.

An error on a GPU can leave a process unable to use it again, and a call can hang. So the process is
replaced after a failure, unless attnbench itself has raised it.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast

from attnbench.errors import AttnbenchError

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

# Helpers are forks of a server that has imported this, which takes seconds, and that never uses a GPU.
_PRELOADED = ["benchmarks.gpu.run"]


class StepFailed(Exception):
    """A call that has failed in the helper.

    Attributes:
        reason: why, in one line.
        traceback: of the exception; empty if the process ended or took too long.
    """

    def __init__(self, reason: str, traceback: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback


@dataclass(frozen=True)
class _Outcome(Generic[Value]):
    """What a call has returned, or why it failed."""

    value: Value | None
    reason: str | None = None
    traceback: str = ""
    must_be_replaced: bool = False


class Helper:
    """Calls functions in another process, one at a time. A context manager."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)
        self._start()

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def replace(self) -> None:
        """End the process, and start another one."""
        self._end()
        self._start()

    def call(
        self,
        function: Callable[Arguments, Value],
        *args: Arguments.args,
        timeout: float,
    ) -> Value:
        """Call a function of a module, and return its value.

        Args:
            function: what to call.
            args: its arguments.
            timeout: the seconds that it may take.

        Raises:
            StepFailed: if it raises, ends the process or takes too long.
        """
        self._connection.send((function, args))
        try:
            if not self._connection.poll(timeout):
                self.replace()
                raise StepFailed(f"stopped after {timeout:.0f} s")
            outcome: _Outcome[Value] = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.replace()
            raise StepFailed(f"the process ended with exit code {code}") from None
        if outcome.must_be_replaced:
            self.replace()
        if outcome.reason is not None:
            raise StepFailed(outcome.reason, outcome.traceback)
        return cast(Value, outcome.value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Connection) -> None:
    while True:
        try:
            function, args = connection.recv()
        except EOFError:
            return
        connection.send(_outcome(function, args))


def _outcome(function: Callable[..., Value], args: tuple[Any, ...]) -> _Outcome[Value]:
    try:
        return _Outcome(function(*args))
    except AttnbenchError as error:
        return _Outcome(None, str(error), traceback.format_exc())
    except BaseException as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first_line}".removesuffix(": ")
        return _Outcome(None, reason, traceback.format_exc(), must_be_replaced=True)
