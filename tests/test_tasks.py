"""Task definitions: the shipped files are valid, and errors in a file are explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.errors import AttnbenchError
from attnbench.tasks import list_tasks, load_task, read_task

VALID = """
name = "made-up"
version = 1
title = "Made up"
reference = "none"
description = "for a test"

[tracks.mini]
backbones = ["shipped/digits-cnn"]
targets = "all"
timeout = 60

[tracks.mini.adapt]
source = { kind = "digits", split = "adapt" }
positives = 20
negatives = 20

[tracks.mini.test]
source = { kind = "digits", split = "test" }
positives = 50
negatives = 400
generator = { kind = "noise", sigma = 0.5 }
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "made-up.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", list_tasks())
def test_a_task_has_the_name_of_its_file_and_a_mini_track(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert "mini" in task.tracks


@pytest.mark.parametrize("name", list_tasks())
def test_small_and_full_test_on_at_least_2000_negatives(name: str) -> None:
    for track_name, track in load_task(name).tracks.items():
        negatives = track.test.negatives
        assert track_name == "mini" or negatives == "all" or negatives >= 2000


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version = 1", "version = 1\nflavour = 2", ["flavour", "allowed here: name, version"]),
        ("timeout = 60", "timeout = 60\nlimit = 3", ["tracks.mini.limit", "timeout"]),
        (
            "sigma = 0.5",
            "sigma = 0.5, mean = 1",
            ["generator.noise.mean", "allowed here: kind, sigma"],
        ),
        ("sigma = 0.5", "sigma = -1", ["sigma", "greater than or equal to 0"]),
        ("timeout = 60", "timeout = 0", ["tracks.mini.timeout", "greater than 0"]),
        ("[tracks.mini", "[tracks.Huge", ["tracks.Huge", "pattern", "[a-z0-9]"]),
        ('"digits", split = "test"', '"photos", split = "test"', ["source", "'digits'"]),
        ('split = "test"', 'split = "rest"', ["split", "'test'"]),
        ("positives = 50\n", "", ["tracks.mini.test.positives", "required"]),
        ("version = 1", 'version = "one"', ["version", "integer"]),
        ('name = "made-up"', 'name = "Made Up/.."', ["name", "pattern"]),
        ("version = 1", "version = = 1", ["cannot read", "as TOML", "line 3"]),
    ],
)
def test_the_error_names_file_key_and_allowed_values(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    path = _write(tmp_path, VALID.replace(old, new))
    with pytest.raises(AttnbenchError) as error:
        read_task(path)
    for text in [str(path), *expected]:
        assert text in str(error.value)


def test_a_missing_or_binary_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(AttnbenchError, match=r"cannot read .*x\.toml"):
        read_task(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AttnbenchError, match=r"cannot read .*x\.toml"):
        read_task(path)


def test_the_error_for_an_unknown_task_lists_the_tasks() -> None:
    with pytest.raises(AttnbenchError, match=r"'nosy-mnist'; the tasks are .*noisy-mnist"):
        load_task("nosy-mnist")


def test_the_hash_depends_on_the_content_not_on_formatting(tmp_path: Path) -> None:
    original = read_task(_write(tmp_path, VALID)).content_hash
    reformatted = VALID.replace("timeout = 60", "# a comment\ntimeout = 60.0")
    assert read_task(_write(tmp_path, reformatted)).content_hash == original
    changed = VALID.replace("sigma = 0.5", "sigma = 0.6")
    assert read_task(_write(tmp_path, changed)).content_hash != original
