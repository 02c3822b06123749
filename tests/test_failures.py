"""What an author learns from a failure: the exception, the lines of code, and what was printed."""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.backbones import load
from attnbench.commands.check import noise_episode
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.records.record import EpisodeResult
from attnbench.sandbox.failures import describe_failure
from attnbench.submission import load_submission
from attnbench.text import failure_text, printable_lines, with_real_paths

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

BACKBONE = "shipped/digits-cnn"

HONEST = """
import ctypes, os, sys
from torch import nn

print("imported")

class Detector(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        {predict}
        return self.network(images)[:, 0]

def adapt(backbone, pos, neg):
    print("adapting")
    {adapt}
    return Detector(backbone)
"""


def failure_of(code: str, folder: Path) -> dict[str, str]:
    """What a worker would say of the exception that `run()` raises in a file of the folder."""
    file = folder / "package" / "part.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(code, encoding="utf-8")
    linecache.checkcache()
    spec = spec_from_file_location("part", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        module.run()
    except BaseException as error:
        return describe_failure(error, folder)
    raise AssertionError("nothing was raised")


def test_detail_has_the_own_frames_with_line_breaks_and_no_paths(tmp_path: Path) -> None:
    code = (
        "import json\n"
        "def run():\n"
        "    try:\n"
        "        json.loads('{')\n"
        "    except ValueError as error:\n"
        "        raise KeyError('first\\nsecond') from error\n"
    )
    failure = failure_of(code, tmp_path)
    assert failure["reason"] == r"KeyError: 'first\nsecond'"
    lines = failure["detail"].splitlines()
    assert '  File "package/part.py", line 4, in run' in lines
    assert "    json.loads('{')" in lines
    assert "    raise KeyError('first\\nsecond') from error" in lines
    assert "The above exception was the direct cause of the following exception:" in lines
    assert "decoder.py" not in failure["detail"]
    assert re.search(r'^  File "….*json/decoder.py", line', failure["traceback"], re.MULTILINE)
    assert str(tmp_path) not in failure["traceback"] and sys.prefix not in failure["traceback"]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("import bdb; raise bdb.BdbQuit", "`breakpoint()` needs a terminal, which a worker does"),
        ("raise EOFError('EOF when reading a line')", "`input()` needs a terminal, which a worker"),
        ("import io, pickle; pickle.load(io.BytesIO())", "EOFError: Ran out of input"),
        ("raise ValueError('x' * 10**7)", "ValueError: xxx"),
        ("run()", "RecursionError: maximum recursion depth exceeded"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()", "E: its message can"),
        ("raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])", "ExceptionGroup: two"),
        ("raise ValueError('\\ud800 \\x1b[2J')", "ValueError: \ud800 \x1b[2J"),
    ],
)
def test_any_exception_has_a_bounded_description(
    statement: str, reason: str, tmp_path: Path
) -> None:
    failure = failure_of(f"def run():\n    {statement}\n", tmp_path)
    assert failure["reason"].startswith(reason) and len(failure["reason"]) <= 1000
    assert len(failure["detail"]) < len(failure["traceback"]) < 10_000
    assert 'File "package/part.py", line 2, in run' in failure["detail"]
    if "needs a terminal" in reason:
        assert "run `attnbench try SUBMISSION`" in failure["reason"]


def test_syntax_error_shows_the_line(tmp_path: Path) -> None:
    failure = failure_of("x = 1\ndef run(:\n", tmp_path)
    assert failure["reason"] == "SyntaxError: invalid syntax (part.py, line 2)"
    assert failure["detail"].splitlines()[:2] == [
        '  File "package/part.py", line 2',
        "    def run(:",
    ]


def test_only_files_of_the_submission_get_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "my method"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "part.py").touch()
    (tmp_path / "secret.py").touch()
    names = ("package/part.py", "other.py", "../secret.py", "/etc/passwd", "…/torch/nn/module.py")
    traceback = "\n".join(f'  File "{name}", line 3, in f' for name in names)
    first, *others = with_real_paths(traceback, folder).splitlines()
    assert first == f'  File "{folder}/package/part.py", line 3, in f'
    assert others == traceback.splitlines()[1:]


@given(st.text() | st.text("\x00\x1b[2J\r\n\t\x85\u2028\u202e"), st.integers(1, 50))
def test_printable_lines_have_no_control_characters(text: str, limit: int) -> None:
    shown = printable_lines(text, limit)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert len(shown.replace(" ", "")) <= limit + 1
    assert printable_lines(shown) == shown
    assert failure_text(text, text, None).replace("\n", "").isprintable()


def test_printable_lines_show_what_a_terminal_shows() -> None:
    bar = "".join(f"\r{n} %" for n in range(101))
    assert printable_lines(f"\x1b[31mred\x1b[0m\n{bar}\n\tindented\r\n\n") == (
        "red\n100 %\n        indented"
    )


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with open_judge(Conditions(untrained=True)) as judge:
        yield judge.evaluator(BACKBONE)


@pytest.fixture
def judge_code(
    evaluator: Evaluator, submission_folder: Callable[[str, str], Path]
) -> Callable[..., EpisodeResult]:
    """A function that judges `HONEST` with further statements."""
    episode = noise_episode(load(BACKBONE, untrained=True))

    def judge(
        adapt: str = "", predict: str = "", timeout: float = 30.0, cold: bool = False
    ) -> EpisodeResult:
        code = HONEST.format(adapt=adapt or "pass", predict=predict or "pass")
        submission = load_submission(submission_folder("printing", code))
        return evaluator.judge(submission, episode, timeout, cold=cold).result

    return judge


def test_output_of_all_kinds_is_kept_once(judge_code: Callable[..., EpisodeResult]) -> None:
    adapt = (
        "ctypes.CDLL(None).puts(b'from C'); os.system('echo from a child'); "
        "print('to stderr', file=sys.stderr); print('no line break ', end='')"
    )
    result = judge_code(adapt, "print(len(images))", cold=True)
    assert result.status == "ok", result.reason
    first, second = result.printed.split("no line break ")
    # Neither the rehearsal nor the cold adaptation is repeated here.
    assert first.split("\n") == [
        *("imported", "adapting", "from C", "from a child", "to stderr"),
        "",
    ]
    # The process that predicts imports the submission too.
    assert second.splitlines()[0] == "imported"
    assert all(line.isdigit() for line in second.splitlines()[1:]) and second.count("\n") > 1


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("__import__('time').sleep(60)", "timeout"),
    ],
)
def test_output_survives_any_end_of_a_worker(
    judge_code: Callable[..., EpisodeResult], end: str, reason: str
) -> None:
    adapting = judge_code(f"ctypes.CDLL(None).puts(b'from C'); {end}", timeout=1.0)
    assert adapting.status == "failed" and reason in adapting.reason
    assert adapting.printed.endswith("adapting\nfrom C\n")


def test_output_before_a_failed_prediction_is_kept(
    judge_code: Callable[..., EpisodeResult],
) -> None:
    result = judge_code(predict="print('predicting'); raise ValueError('no')")
    assert result.printed == "imported\nadapting\nimported\npredicting\n"
    assert result.detail.splitlines()[-1] == "ValueError: no"


def test_output_is_bounded_and_may_contain_anything(
    judge_code: Callable[..., EpisodeResult],
) -> None:
    loud = "os.write(1, b'x' * 100_000_000); os.write(2, b'\\xff\\x00\\x1b]0;owned\\x07end\\n')"
    result = judge_code(loud, loud)
    assert result.status == "ok", result.reason
    assert len(result.printed) <= 10_000
    assert "bytes before this are not kept]\nxxx" in result.printed
    assert result.printed.endswith("\x1b]0;owned\x07end\n")
    assert printable_lines(result.printed).endswith("xx���]0;owned�end")
    assert EpisodeResult.model_validate_json(result.model_dump_json()) == result


def test_failure_of_a_rehearsal_is_described_once(
    judge_code: Callable[..., EpisodeResult],
) -> None:
    result = judge_code("raise ValueError('no')")
    assert result.detail.count("ValueError: no") == result.traceback.count("ValueError: no") == 1
    assert result.printed == "imported\nadapting\n"
