"""Each exploit works once the defence against it is taken out.

So `test_exploits.py` passes because of the defences, and not because an exploit has a bug. Which
defence stops which exploits is listed in `defences_of_the_judge.py` and
`defences_of_the_sandbox.py`.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from attnbench.isolation.scratch import remove
from attnbench.judge import template
from tests import exploit_traces, weakened_sandbox
from tests.defence import Defence
from tests.defences_of_the_judge import JUDGE_DEFENCES
from tests.defences_of_the_sandbox import SANDBOX_DEFENCES
from tests.exploit_judge import EXPLOITS, Exploit, ExploitJudge, write
from tests.exploit_preconditions import why_impossible

DEFENCES = (*JUDGE_DEFENCES, *SANDBOX_DEFENCES)
# The sign that an exploit has worked, by the outcome that it should have had. It must be this one:
# an exploit whose outcome is wrong for another reason may be broken itself.
SIGNS = {
    "refused": "^it was not refused$",
    "honest": "^its scores differ",
    "charged": "^its work was charged as",
    "counted": "^its numbers count as",
}
# The judge waits this long for an answer of a fork server that an exploit has stopped.
ANSWER_SECONDS = 15.0


class WeakenedJudges:
    """Opens judges without a defence, one at a time, and keeps the last one while it will do.

    Attributes:
        twin: the outcome of the honest twin with all defences in place.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._scratch: Path | None = None
        self._defence = Defence("none", stops=())
        self._judge: ExploitJudge | None = self._open(self._defence)
        self._count = 0
        self.twin = self._judge.judge(self._write_twin())
        assert self.twin.result.status == "ok", self.twin.result.reason

    def without(self, defence: Defence) -> ExploitJudge:
        """Return a judge without this defence, which still judges the honest twin as before."""
        last = self._defence
        is_same = (defence.sandbox, defence.opening) == (last.sandbox, last.opening)
        if self._judge is None or defence.reopen or not is_same:
            self.close()
            self._judge = self._open(defence)
        if defence is not last:
            outcome = self._judge.judge(self._write_twin())
            assert outcome.result.status == "ok", outcome.result.reason
            assert outcome.scores.equals(self.twin.scores)
        self._defence = defence
        return self._judge

    def _open(self, defence: Defence) -> ExploitJudge:
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("ATTNBENCH_DATA", "/nowhere")  # what `labels/environment` looks for
        if defence.opening is not None:
            defence.opening(patch)
        if defence.sandbox:
            names = " ".join(remove.__name__ for remove in defence.sandbox)
            patch.setenv(weakened_sandbox.VARIABLE, names)
            passed_on = (*template._PASSED_ON, weakened_sandbox.VARIABLE)
            patch.setattr(template, "_PASSED_ON", passed_on)
            patch.setattr(template, "_SANDBOX", weakened_sandbox.__name__)
        judge = self._stack.enter_context(ExploitJudge("process"))
        patch.setattr(template, "_START_SECONDS", ANSWER_SECONDS)
        self._scratch = exploit_traces.scratch_of(judge.server).resolve()
        return judge

    def clean_up(self) -> None:
        """Remove what an exploit has left, and close a judge that it has spoilt."""
        exploit_traces.remove_traces()
        if self._judge is None:
            return
        server = self._judge.server
        is_stopped = server.is_running() and server.status() == psutil.STATUS_STOPPED
        has_strays = len(exploit_traces.children_of(server.pid)) > 1
        if is_stopped or has_strays:
            server.send_signal(signal.SIGCONT)
            # Before their parent ends: afterwards nobody knows which processes they are.
            exploit_traces.kill_children(server.pid)
        if is_stopped or has_strays or not server.is_running():
            self.close()

    def close(self) -> None:
        """Close the judge, and remove what a weakened fork server leaves of its scratch folder."""
        self._stack.close()
        if self._scratch is not None:
            remove(self._scratch)
        self._judge = self._scratch = None

    def _write_twin(self) -> Path:
        self._count += 1
        parent = self._folder / str(self._count)
        parent.mkdir()
        return write("honest", parent)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeakenedJudges]:
    judges = WeakenedJudges(tmp_path_factory.mktemp("twins"))
    yield judges
    judges.close()


def test_each_exploit_is_stopped_by_a_known_defence() -> None:
    stopped = {name for defence in DEFENCES for name in defence.stops}
    assert sorted(stopped) == EXPLOITS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # infinite scores
@pytest.mark.parametrize(
    ("defence", "name"),
    [
        pytest.param(defence, name, id=f"{name} unless {defence.name}")
        for defence in DEFENCES
        for name in defence.stops
    ],
)
def test_exploit_works_without_the_defence(
    defence: Defence, name: str, judges: WeakenedJudges, tmp_path: Path
) -> None:
    if (reason := why_impossible(name)) is not None:
        pytest.skip(reason)
    exploit = Exploit.read(name)
    with exploit_traces.contained(name), pytest.MonkeyPatch.context() as patch:
        if defence.judge is not None:
            defence.judge(patch)
        judge = judges.without(defence)
        try:
            signs = judge.try_exploit(
                exploit, tmp_path, judges.twin, timeout=defence.timeout, patience=1.0
            )
        finally:
            judges.clean_up()
    expected = defence.shows or SIGNS[exploit.outcome]
    assert any(re.search(expected, sign) for sign in signs), signs
