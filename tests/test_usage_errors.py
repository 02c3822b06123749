"""Wrong paths and misspelt names: every option of every verb says what was wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import attnbench
from attnbench.cli.main import app
from tests.command_line import run

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

RECORDS = Path(__file__).parents[1] / "published"
# Made by a fixture, in the working folder of each test.
RECORD = "made/mini/noisy-mnist/none@shipped-digits-cnn@seed0@cpu.json"

NUMBERS = ("N", "K", "S")
# What each verb needs besides the option that is wrong.
OTHERS = {
    "evaluate": ["none", "--task", "noisy-mnist", "--records", "own-records"],
    "curve": ["none", "--task", "noisy-mnist", "--records", "own-records"],
    "explain": ["none", "--task", "noisy-mnist"],
    "interference": ["none", "--task", "noisy-mnist", "--pairs", "1", "--records", "own-records"],
    "check": ["none"],
    "compare": ["none", "bias_only", "--task", "noisy-mnist", "--records", str(RECORDS)],
    "leaderboard": ["--records", "empty"],
    "new": ["mine"],
    "new-task": ["mine", "--images", "empty"],
    "publish": ["none", "--records", "empty"],
    "records list": ["none", "--records", str(RECORDS)],
    "records remove": ["none", "--records", str(RECORDS)],
    "records show": [RECORD, "--errors", "errors.png"],
    "status": [],
    "tasks": ["noisy-mnist"],
    "try": ["none", "--task", "noisy-mnist"],
    "verify": [RECORD],
}
FILE_FOR_FOLDER = ("file", "is a file")
FOLDER_FOR_FILE = ("folder", "is a directory")
NOT_WRITABLE = ("file/x", "Not a directory")
BACKBONES = [
    ("file", "unknown backbone 'file'; use shipped/NAME"),
    ("folder", "folder is a folder; name the file in it"),
    ("missing.toml", "No such file"),
    ("text.toml", "is not valid TOML"),
    ("missing.py:function", "there is no file"),
    ("shipped/digit-cnn", "did you mean shipped/digits-cnn?"),
    ("torchvision/vgg_16", "did you mean vgg16?"),
    ("timm/resnet_50", "did you mean resnet50?"),
]
RECORDED_BACKBONES = [
    ("shipped/digit-cnn", "the backbone shipped/digits-cnn, not of shipped/digit-cnn"),
    ("missing.toml", "No such file"),
]
TASKS = [
    ("file", "cannot read file as TOML"),
    ("folder", "folder is a folder; name the task file in it"),
    ("missing", "unknown task 'missing'"),
    ("missing.toml", "No such file"),
    ("nosy-mnist", "did you mean noisy-mnist?"),
]
TRACKS = [("minni", "did you mean mini?")]
RECORD_FILES = [
    ("file", "file: not a complete record"),
    ("folder", "is a directory"),
    ("missing", "does not exist"),
]
SUBMISSIONS = [
    ("file", "file is a file; name the submission's folder instead"),
    ("folder", "has no submission.toml"),
    ("atention", "did you mean attention?"),
    ("missing/mine", "there is no such folder"),
]
SETTINGS = [
    ("steps", "write NAME=VALUE"),
    ("stepps=3", "did you mean steps?"),
    ("steps=many", "is an integer, such as 50"),
]

FILTERS = {
    "SUBMISSION": [("bias_olny", "did you mean bias_only?")],
    "--track": TRACKS,
    "--task": [("nosy-mnist", "did you mean noisy-mnist?")],
    "--backbone": [("shipped/digit-cnn", "did you mean shipped/digits-cnn?")],
}

# Wrong values of every option and argument that takes text, and a part of the answer.
WRONG = {
    ("evaluate", "SUBMISSION"): [case for case in SUBMISSIONS if case[0] != "folder"],
    ("evaluate", "--track"): TRACKS,
    ("evaluate", "--task"): TASKS,
    ("evaluate", "--target"): [("33", "did you mean 3? (known: 0, 1, 2")],
    ("evaluate", "--backbone"): BACKBONES,
    ("evaluate", "--set"): [("intensity=3", "none has no hyperparameters"), SETTINGS[0]],
    ("evaluate", "--address"): [],  # of another machine
    ("evaluate", "--data"): [FILE_FOR_FOLDER],
    ("evaluate", "--records"): [FILE_FOR_FOLDER, NOT_WRITABLE],
    ("check", "SUBMISSION"): SUBMISSIONS,
    ("check", "--backbone"): BACKBONES,
    ("check", "--data"): [FILE_FOR_FOLDER],
    ("compare", "A B…"): [("bias_olny", "did you mean bias_only?")],
    ("compare", "--records"): [FILE_FOR_FOLDER, ("missing", "is not a folder")],
    ("compare", "--track"): TRACKS,
    ("compare", "--task"): [("nosy-mnist", "did you mean noisy-mnist?")],
    ("compare", "--backbone"): [("shipped/digit-cnn", "did you mean shipped/digits-cnn?")],
    ("compare", "--plot"): [FOLDER_FOR_FILE],
    ("compare", "--data"): [FILE_FOR_FOLDER],
    ("compare", "--trials"): [FOLDER_FOR_FILE],
    ("leaderboard", "--out"): [FOLDER_FOR_FILE, NOT_WRITABLE],
    ("leaderboard", "--records"): [FILE_FOR_FOLDER, ("missing", "missing is not a folder")],
    ("leaderboard", "--site"): [FILE_FOR_FOLDER, NOT_WRITABLE],
    ("leaderboard", "--plots"): [FILE_FOR_FOLDER],
    ("leaderboard", "--data"): [FILE_FOR_FOLDER],
    ("leaderboard", "--export"): [FILE_FOR_FOLDER, NOT_WRITABLE],
    ("curve", "SUBMISSION"): [case for case in SUBMISSIONS if case[0] != "folder"],
    ("curve", "--images"): [],  # see test_curves.py
    ("curve", "--budget"): [("declared", "none declares no budget")],
    ("curve", "--track"): TRACKS,
    ("curve", "--task"): TASKS,
    ("curve", "--backbone"): BACKBONES,
    ("curve", "--data"): [FILE_FOR_FOLDER],
    ("curve", "--records"): [FILE_FOR_FOLDER, NOT_WRITABLE],
    ("curve", "--plot"): [
        ("curve.pdf", "must end in .svg or .png"),
        ("folder.svg", "is a directory"),
    ],
    ("explain", "SUBMISSION"): SUBMISSIONS,
    ("explain", "--track"): TRACKS,
    ("explain", "--task"): TASKS,
    ("explain", "--target"): [("33", "did you mean 3?")],
    ("explain", "--backbone"): BACKBONES,
    ("explain", "--data"): [FILE_FOR_FOLDER],
    ("explain", "--out"): [
        ("picture.pdf", "must end in .svg or .png"),
        ("folder.svg", "is a directory"),
    ],
    ("interference", "SUBMISSION"): [case for case in SUBMISSIONS if case[0] != "folder"],
    ("interference", "--track"): TRACKS,
    ("interference", "--task"): TASKS,
    ("interference", "--backbone"): BACKBONES,
    ("interference", "--data"): [FILE_FOR_FOLDER],
    ("interference", "--records"): [FILE_FOR_FOLDER, NOT_WRITABLE],
    ("interference", "--plot"): [
        ("curve.pdf", "must end in .svg or .png"),
        ("folder.svg", "is a directory"),
    ],
    ("new", "NAME"): [
        ("a/b", "is not a valid name"),
        ("attention", "attention"),
        ("file", "exists"),
    ],
    ("new", "--in"): [FILE_FOR_FOLDER, NOT_WRITABLE],
    ("new-task", "NAME"): [("a/b", "is not a valid name")],
    ("new-task", "--images"): [
        ("file", "neither a folder nor a CSV or Parquet file"),
        ("folder", "found no pictures in"),
        ("missing", "does not exist"),
    ],
    ("new-task", "--target"): [("x", "found no pictures in")],
    ("new-task", "--backbone"): BACKBONES[:3],
    ("new-task", "--in"): [FILE_FOR_FOLDER],
    ("publish", "SUBMISSION"): SUBMISSIONS[:3],
    ("publish", "--records"): [FILE_FOR_FOLDER, ("missing", "has no records of none")],
    ("publish", "--published"): [FILE_FOR_FOLDER],
    ("publish", "--out"): [FOLDER_FOR_FILE],
    ("publish", "--data"): [FILE_FOR_FOLDER],
    ("publish", "--hub"): [("board", "OWNER/board"), ("a b/c", "is not the name of a repository")],
    **{("records list", name): cases for name, cases in FILTERS.items()},
    ("records list", "--records"): [FILE_FOR_FOLDER, ("missing", "is not a folder")],
    **{("records remove", name): cases for name, cases in FILTERS.items()},
    ("records remove", "--records"): [FILE_FOR_FOLDER, ("missing", "is not a folder")],
    ("records show", "RECORD"): RECORD_FILES,
    ("records show", "--errors"): [FOLDER_FOR_FILE, NOT_WRITABLE],
    ("records show", "--task"): TASKS,
    ("records show", "--backbone"): [],  # only read for a network of one's own
    ("records show", "--data"): [FILE_FOR_FOLDER],
    ("status", "--records"): [FILE_FOR_FOLDER],
    ("tasks", "[NAME|FILE]"): TASKS,
    ("tasks", "--gallery"): [FOLDER_FOR_FILE, NOT_WRITABLE],
    ("tasks", "--track"): TRACKS,
    ("tasks", "--data"): [FILE_FOR_FOLDER],
    ("try", "SUBMISSION"): [case for case in SUBMISSIONS if case[0] != "folder"],
    ("try", "--task"): TASKS,
    ("try", "--target"): [("33", "did you mean 3?")],
    ("try", "--track"): TRACKS,
    ("try", "--backbone"): BACKBONES,
    ("try", "--data"): [FILE_FOR_FOLDER],
    ("verify", "RECORD"): RECORD_FILES,
    ("verify", "--submission"): SUBMISSIONS,
    ("verify", "--task"): TASKS,
    ("verify", "--backbone"): RECORDED_BACKBONES,
    ("verify", "--set"): [("steps=3", "leave out --set"), SETTINGS[0]],
    ("verify", "--data"): [FILE_FOR_FOLDER],
}


def parameters() -> Iterator[tuple[str, str]]:
    """The verb and the name of each option and argument that takes a path or another text."""

    def collect(verb: str, command: Any) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            if verb and parameter.metavar and parameter.metavar not in NUMBERS:
                is_option = parameter.opts[0].startswith("--")
                yield verb, parameter.opts[0] if is_option else parameter.metavar
        for name, subcommand in getattr(command, "commands", {}).items():
            yield from collect(f"{verb} {name}".strip(), subcommand)

    return collect("", get_command(app))


def test_every_text_that_a_verb_takes_is_tried() -> None:
    assert set(WRONG) == set(parameters())


def arguments_with(verb: str, name: str, value: str) -> list[str]:
    """The command line with this value of an option or argument, and what else the verb needs."""
    others = OTHERS[verb]
    if not name.startswith("--"):
        return [*verb.split(), *([] if name != "A B…" else ["none"]), value, *others[1:]]
    if name in others:  # the last of two values counts, but for options that may be repeated
        at = others.index(name)
        others = others[:at] + others[at + 2 :]
    return [*verb.split(), *others, name, value]


def message_of(arguments: list[str]) -> str:
    """Run a command that must end with exit code 2, and return the message on one line."""
    ended = run(*arguments)
    assert ended.returncode == 2
    return " ".join(ended.stderr.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a record of the present version of its task."""
    folder = tmp_path_factory.mktemp("made")
    attnbench.evaluate("none", tasks="noisy-mnist", records=folder)
    return folder


@pytest.fixture(autouse=True)
def _folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a file, a folder, a task or backbone that is no TOML, and no records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    for name, text in (("file", "text"), ("text.toml", "a = b = c")):
        Path(name).write_text(text, encoding="utf-8")
    Path("folder").mkdir()
    Path("folder.svg").mkdir()
    Path("made").symlink_to(made)
    Path("empty").mkdir()


@pytest.mark.parametrize(
    ("verb", "name", "value", "expected"),
    [(*parameter, *case) for parameter, cases in WRONG.items() for case in cases],
)
def test_a_wrong_value_is_answered(
    verb: str,
    name: str,
    value: str,
    expected: str,
) -> None:
    if value.startswith("timm/"):
        pytest.importorskip("timm")
    assert expected in message_of(arguments_with(verb, name, value))


@pytest.mark.parametrize(("verb", "name"), WRONG)
def test_an_empty_value_is_refused(verb: str, name: str) -> None:
    message = message_of(arguments_with(verb, name, ""))
    assert message.startswith(
        f"attnbench: {name if name.startswith('--') else 'an argument'} is empty"
    )
