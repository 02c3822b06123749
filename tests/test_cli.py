"""The command line as a user sees it: help, exit codes, messages, table and JSON."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from attnbench import vocabulary
from attnbench.cli import report
from attnbench.cli.main import app, main
from attnbench.text import printable

# Pydantic is missing here: recent versions of typer import it to read a verb's options.
HEAVY = {"torch", "torchvision", "pandas", "numpy", "datasets", "rich", "matplotlib"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `attnbench` with these arguments and additional environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "attnbench", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**_environment(), **environment},
    )


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[1])
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("ATTNBENCH_")}
    return inherited | {"PYTHONPATH": root, "PYTHONIOENCODING": "utf-8"}


def _options() -> dict[tuple[str, str], Any]:
    """The click parameter of each option, by the names of verb and option."""
    from typer.main import get_command

    return {
        (verb, option): parameter
        for verb, command in get_command(app).commands.items()  # type: ignore[attr-defined]
        for parameter in command.params
        for option in parameter.opts[:1]
        if option.startswith("--") and option != "--help"
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["evaluate", "--help"],
        ["tasks", "--help"],
        ["new", "--help"],
        ["check", "--help"],
        ["leaderboard", "--help"],
    ],
)
def test_help_imports_no_heavy_library(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from attnbench.cli.main import app\n"
        "try:\n"
        f"    app({arguments!r})\n"
        "except SystemExit as exit_request:\n"
        "    code = exit_request.code\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        "print(code, [name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=_environment()
    )
    assert result.stderr.strip() == "0 []"
    assert "Usage: " in result.stdout


def test_help_describes_every_command_without_truncation() -> None:
    _, commands = run("--help").stdout.split("Commands:")
    assert "evaluate" in commands and "..." not in commands


def test_printed_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"attnbench {version('attnbench')}\n"


def test_every_flag_has_its_environment_variable() -> None:
    options = _options()
    assert len(options) > 30
    for (verb, option), parameter in options.items():
        expected = "ATTNBENCH_" + option.removeprefix("--").replace("-", "_").upper()
        assert parameter.envvar == expected, (verb, option)


@pytest.mark.parametrize(
    ("option", "literal"),
    [
        ("--track", vocabulary.TrackName),
        ("--device", vocabulary.DeviceKind),
        ("--engine", vocabulary.EngineName),
        ("--isolation", vocabulary.IsolationLevel),
        ("--progress", vocabulary.ProgressStyle),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_offer_the_values_of_the_vocabulary(option: str, literal: object) -> None:
    verbs = [verb for verb, name in _options() if name == option]
    assert "evaluate" in verbs
    for verb in verbs:
        help_text = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "100"}).output
        (choices,) = re.findall(rf"^ *{option} \W([\w|]+)\W(?:\s|$)", help_text, re.MULTILINE)
        assert choices.split("|") == list(get_args(literal)), verb


def test_help_of_evaluate_lists_the_tracks() -> None:
    assert "mini|small|full" in run("evaluate", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate"], "SUBMISSION"),
        (["evaluate", "x", "--track", "huge"], "--track"),
        (["evaluate", "x", "--device", "tpu"], "--device"),
        (["evaluate", "x", "--seeds", "0"], "--seeds"),
        (["evaluate", "x", "--workers", "0"], "--workers"),
        (["evaluate", "x", "--timeout", "-1"], "--timeout"),
        (["evaluate", "x", "--engine", "dask"], "--engine"),
        (["evaluate", "x", "--colour"], "--colour"),
        (["tasks", "--gallery", "x.png"], "--gallery"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_option(arguments: list[str], named: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_environment_variable_is_read_and_validated() -> None:
    result = run("evaluate", "x", ATTNBENCH_TRACK="huge")
    assert result.returncode == 2
    assert "ATTNBENCH_TRACK" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate", "no-such-thing"], "no-such-thing"),
        (["check", "no-such-thing"], "no-such-thing"),
        (["evaluate", "none", "--task", "no-such-task"], "no-such-task"),
        (["evaluate", "none", "--backbone", "shipped/no-such"], "shipped/no-such"),
        (["tasks", "no-such-task"], "no-such-task"),
        (["leaderboard", "--records", "no-such-folder"], "no-such-folder"),
    ],
)
def test_error_for_unknown_name_quotes_it_without_traceback(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["attnbench", *arguments])
    with pytest.raises(SystemExit) as exit_request:
        main()
    assert exit_request.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("attnbench: ") and named in message


@pytest.mark.parametrize("kind", [KeyboardInterrupt, None])
def test_interrupted_command_says_that_it_resumes(
    kind: type[BaseException] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from attnbench.cli import main as cli

    def interrupt(*arguments: object, **options: object) -> None:
        raise kind() if kind else SystemExit(130)

    monkeypatch.setattr(cli, "app", interrupt)
    with pytest.raises(SystemExit) as exit_request:
        cli.main()
    assert exit_request.value.code == 130
    assert "resumes" in capsys.readouterr().err


def frame() -> pd.DataFrame:
    """Three rows as `evaluate` returns them: two succeeded and one failed."""
    ok = {
        "submission": "attention",
        "task": "imagenet-standard",
        "track": "mini",
        "backbone": "shipped/figures-vgg",
        "seed": 0,
        "device": "cpu",
        "status": "ok",
        "reason": "",
        "targets": 12,
        "d_prime": 2.345,
        "d_prime_low": 2.011,
        "d_prime_high": 2.612,
        "criterion": -0.123,
        "d_a": 2.5,
        "auc": 0.96,
        "hit_rate": 0.9,
        "false_alarm_rate": 0.1,
        "parameters_added": 512,
        "parameters_changed": 0,
        "artefact_bytes": 4000,
        "adaptation_seconds": 0.1234,
        "adaptation_seconds_cold": 0.2,
        "adaptation_passes": 12.34,
        "prediction_seconds": 0.01,
        "isolation": "process",
        "record": "records/a-rather-long-name-of-a-record-that-must-not-be-wrapped-at-all-now.json",
    }
    large = ok | {
        "submission": "last_layer",
        "parameters_added": 4_097_000,
        "parameters_changed": 4_097_000,
        "d_prime_low": -10.0,
        "adaptation_seconds": 12.34,
        "adaptation_passes": 1234.5,
        "device": "cuda",
    }
    missing = dict.fromkeys(column for column in ok if column not in _COLUMNS_OF_FAILURES)
    failed = ok | missing | {"status": "failed", "reason": "raised: \x1b[31m[bold]boom[/]\nagain"}
    return pd.DataFrame([ok, large, failed | {"submission": "broken"}])


# The columns that a failed row fills.
_COLUMNS_OF_FAILURES = [
    "submission",
    "task",
    "track",
    "backbone",
    "seed",
    "device",
    "status",
    "reason",
    "targets",
    "isolation",
    "record",
]


def report_text(width: int, rows: pd.DataFrame | None = None) -> str:
    """The printed report of some rows, those of `frame()` by default."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    report.print_report(frame() if rows is None else rows, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_the_terminal_without_truncation(width: int) -> None:
    text = report_text(width)
    table = text.split("failed: ")[0]
    assert max(map(len, table.splitlines())) <= width
    assert "…" not in table
    for shown in ("imagenet-standard", "2.35", "[2.01, 2.61]", "-0.12", "4,097,000", "123 ms"):
        assert shown in table
    for heading in ("d′", "d_a", "passes", "vice"):
        assert heading in table
    assert "a-rather-long-name-of-a-record-that-must-not-be-wrapped-at-all-now.json" in text


def test_failure_is_printed_without_control_characters() -> None:
    text = report_text(120)
    assert "failed: broken, imagenet-standard" in text
    assert "[bold]boom[/] again" in text
    assert "\x1b" not in text


def test_json_has_one_object_per_line_with_nulls(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_json(frame())
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["submission"] for row in rows] == ["attention", "last_layer", "broken"]
    assert list(rows[0]) == list(frame().columns)
    assert rows[2]["d_prime"] is None
    assert rows[0]["parameters_added"] == 512
    assert isinstance(rows[0]["parameters_added"], int)


def test_any_failed_is_true_for_a_failed_row() -> None:
    assert report.any_failed(frame())
    assert not report.any_failed(frame().head(2))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0000005, "0 µs"), (0.00042, "420 µs"), (0.0123, "12.3 ms"), (1.5, "1.5 s")],
)
def test_seconds_have_three_significant_digits(value: float | None, text: str) -> None:
    assert report.seconds(value) == text


def test_report_explains_missing_times() -> None:
    assert "--timing-only" not in report_text(80)
    contended = frame().assign(adaptation_seconds=None, adaptation_passes=None)
    assert "--timing-only" in report_text(80, contended)


def test_printable_text_is_one_bounded_line() -> None:
    assert printable("a\n\x1b[2J‮b", 100) == "a �[2J�b"
    assert len(printable("x" * 5000)) == 1000


def test_unreadable_submission_is_a_row_and_other_submissions_run(
    submission_folder: Callable[[str, str], Path],
) -> None:
    broken = submission_folder("broken", "")
    (broken / "submission.toml").write_text('name = "../../x"\n', encoding="utf-8")
    good = submission_folder("good", "def adapt(backbone, pos, neg): return None")
    arguments = ["evaluate", str(broken), str(good), "--task", "noisy-mnist", "--json"]
    result = run(*arguments, "--records", str(broken.parent / "records"))
    assert result.returncode == 1, result.stderr
    rows = {row["submission"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert set(rows) == {"broken", "good"}
    assert rows["broken"]["status"] == "failed" and rows["broken"]["record"] is None
    assert (
        "is not a valid manifest" in rows["broken"]["reason"] and "name" in rows["broken"]["reason"]
    )
    assert "returned None" in rows["good"]["reason"]
