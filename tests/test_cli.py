"""The command line as a user meets it: help, exit codes, messages, table and JSON."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from attnbench.cli import report
from attnbench.cli.main import main
from attnbench.text import printable

# Not pydantic: recent typers import it themselves once a verb's options are read.
HEAVY = {"torch", "torchvision", "pandas", "numpy", "datasets", "rich", "matplotlib"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attnbench", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**_environment(), **environment},
    )


def _environment() -> dict[str, str]:
    import os

    root = str(Path(__file__).parents[1])
    known = {k: v for k, v in os.environ.items() if not k.startswith("ATTNBENCH_")}
    return known | {"PYTHONPATH": root, "PYTHONIOENCODING": "utf-8"}


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
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from attnbench.cli.main import app\n"
        "try:\n"
        f"    app({arguments!r})\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        "print(code, [name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=_environment()
    )
    assert result.stderr.strip() == "0 []"
    assert "Usage: " in result.stdout


def test_help_names_every_command_in_a_whole_sentence() -> None:
    _, commands = run("--help").stdout.split("Commands:")
    assert "evaluate" in commands and "..." not in commands


def test_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"attnbench {version('attnbench')}\n"


def test_every_flag_has_its_environment_variable() -> None:
    from typer.main import get_command

    from attnbench.cli.main import app

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            flags = [option for option in parameter.opts if option.startswith("--")]
            if flags and "--help" not in flags:
                expected = "ATTNBENCH_" + flags[0].removeprefix("--").replace("-", "_").upper()
                assert parameter.envvar == expected, (name, flags)


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
def test_wrong_usage_names_the_option(arguments: list[str], named: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_environment_variable_is_read_and_checked() -> None:
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
def test_unknown_names_are_named_without_a_traceback(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["attnbench", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("attnbench: ") and named in said


@pytest.mark.parametrize("kind", [KeyboardInterrupt, None])
def test_interrupt_says_that_the_same_command_resumes(
    kind: type[BaseException] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from attnbench.cli import main as cli

    def interrupted(*arguments: object, **options: object) -> None:
        raise kind() if kind else SystemExit(130)

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert "resumes" in capsys.readouterr().err


def frame() -> pd.DataFrame:
    """Three rows as `evaluate` returns them: two ok, one failed."""
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
    missing = dict.fromkeys([k for k in ok if k not in _KEPT])
    failed = ok | missing | {"status": "failed", "reason": "raised: \x1b[31m[bold]boom[/]\nagain"}
    return pd.DataFrame([ok, large, failed | {"submission": "broken"}])


_KEPT = [
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


def printed(width: int, rows: pd.DataFrame | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    report.print_report(frame() if rows is None else rows, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_and_loses_nothing(width: int) -> None:
    text = printed(width)
    table = text.split("failed: ")[0]
    assert max(map(len, table.splitlines())) <= width
    assert "…" not in table
    for shown in ("imagenet-standard", "2.35", "[2.01, 2.61]", "-0.12", "4,097,000", "123 ms"):
        assert shown in table
    for heading in ("d′", "d_a", "passes", "vice"):
        assert heading in table
    assert "a-rather-long-name-of-a-record-that-must-not-be-wrapped-at-all-now.json" in text


def test_failure_shows_its_reason_without_control_characters() -> None:
    text = printed(120)
    assert "failed: broken, imagenet-standard" in text
    assert "[bold]boom[/] again" in text
    assert "\x1b" not in text


def test_json_is_one_object_a_line_with_nulls(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_json(frame())
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["submission"] for row in rows] == ["attention", "last_layer", "broken"]
    assert list(rows[0]) == list(frame().columns)
    assert rows[2]["d_prime"] is None
    assert rows[0]["parameters_added"] == 512
    assert isinstance(rows[0]["parameters_added"], int)


def test_any_failed() -> None:
    assert report.any_failed(frame())
    assert not report.any_failed(frame().head(2))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0000005, "0 µs"), (0.00042, "420 µs"), (0.0123, "12.3 ms"), (1.5, "1.5 s")],
)
def test_seconds(value: float | None, text: str) -> None:
    assert report.seconds(value) == text


def test_times_that_are_missing_are_explained() -> None:
    assert "--timing-only" not in printed(80)
    shared = frame().assign(adaptation_seconds=None, adaptation_passes=None)
    assert "--timing-only" in printed(80, shared)


def test_printable_is_one_bounded_line() -> None:
    assert printable("a\n\x1b[2J‮b", 100) == "a �[2J�b"
    assert len(printable("x" * 5000)) == 1000


def test_a_submission_that_cannot_be_read_is_a_row_and_the_others_run(
    submission_folder: Callable[[str, str], Path],
) -> None:
    broken = submission_folder("broken", "")
    (broken / "submission.toml").write_text('name = "../../x"\n', encoding="utf-8")
    good = submission_folder("good", "def adapt(backbone, pos, neg): return None")
    line = ["evaluate", str(broken), str(good), "--task", "noisy-mnist", "--json"]
    result = run(*line, "--records", str(broken.parent / "records"))
    assert result.returncode == 1, result.stderr
    rows = {row["submission"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert set(rows) == {"broken", "good"}
    assert rows["broken"]["status"] == "failed" and rows["broken"]["record"] is None
    assert "not a manifest" in rows["broken"]["reason"] and "name" in rows["broken"]["reason"]
    assert "returned None" in rows["good"]["reason"]
