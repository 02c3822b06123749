"""The command line as a user sees it: help, options, exit codes and messages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from attnbench import vocabulary
from attnbench.cli.main import app, main
from attnbench.tasks import list_tasks, load_task

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
    """The click parameter of each option, by the words of its verb and its name."""
    from typer.main import get_command

    def collect(verb: str, command: Any) -> Iterator[tuple[tuple[str, str], Any]]:
        for parameter in command.params:
            if verb and parameter.opts[0].startswith("--") and parameter.opts[0] != "--help":
                yield (verb, parameter.opts[0]), parameter
        for name, subcommand in getattr(command, "commands", {}).items():
            yield from collect(f"{verb} {name}".strip(), subcommand)

    return dict(collect("", get_command(app)))


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
        help_text = (
            CliRunner().invoke(app, [*verb.split(), "--help"], env={"COLUMNS": "100"}).output
        )
        (choices,) = re.findall(rf"^ *{option} \W([\w|]+)\W(?:\s|$)", help_text, re.MULTILINE)
        assert choices.split("|") == list(get_args(literal)), verb


def test_help_of_evaluate_lists_the_tracks() -> None:
    """A task file may have a track of another name, so `--track` takes any."""
    help_text = " ".join(run("evaluate", "--help").stdout.split())
    _, description = help_text.split("--track NAME ")
    assert ", ".join(vocabulary.TRACKS) in description[:100]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate"], "SUBMISSION"),
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
    result = run("evaluate", "x", ATTNBENCH_DEVICE="tpu")
    assert result.returncode == 2
    assert "ATTNBENCH_DEVICE" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate", "no-such-thing"], "no-such-thing"),
        (["check", "no-such-thing"], "no-such-thing"),
        (["evaluate", "none", "--task", "no-such-task"], "no-such-task"),
        (["evaluate", "none", "--track", "huge"], "--track huge"),
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


RECORD = (
    Path(__file__).parents[1] / "published/mini/noisy-mnist/none@shipped-digits-cnn@seed0@cpu.json"
)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_that_cannot_be_encoded_does_not_end_a_command(encoding: str) -> None:
    done = run("records", "show", str(RECORD), PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "d'" in done.stdout and "none on noisy-mnist" in done.stdout


@pytest.mark.parametrize(
    "verb", ["evaluate none", "compare none bias_only", "leaderboard", "status"]
)
def test_a_file_in_place_of_the_records_folder_is_an_error(verb: str, tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    file.write_text("{}")
    done = run(*verb.split(), "--records", str(file))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "is a file" in " ".join(done.stderr.split())


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    records = ["--records", str(RECORD.parents[2])]
    for arguments, expected in (
        (["evaluate", "atention"], "no submission 'atention': did you mean attention?"),
        (
            ["compare", "none", "bias_olny", *records],
            "; did you mean bias_only?",
        ),
        (
            ["compare", "none", "bias_only", "--task", "nosy-mnist", *records],
            "; did you mean noisy-mnist?",
        ),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and expected in done.stderr


@pytest.mark.parametrize("columns", [66, 80])
def test_the_list_of_tasks_breaks_no_name(columns: int) -> None:
    done = run("tasks", COLUMNS=str(columns))
    assert max(map(len, done.stdout.splitlines())) <= columns
    for task in map(load_task, list_tasks()):
        assert task.name in done.stdout.splitlines()
        for track in task.tracks.values():
            sources = [track.adapt.source, track.test.source]
            hubs = [source.hub or source.folder for source in sources if source.kind == "hub"]
            assert all(f" {name} " in done.stdout for name in [*track.backbones, *hubs])
