"""Task definitions: what stands in `tasks/` is sound, and what is wrong with a file is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.errors import AttnbenchError
from attnbench.tasks import list_tasks, load_task, read_task

GOOD = """
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
def test_every_task_is_called_what_its_file_is_and_has_a_mini_track(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert "mini" in task.tracks


@pytest.mark.parametrize("name", list_tasks())
def test_small_and_full_have_at_least_2000_negatives(name: str) -> None:
    for track, definition in load_task(name).tracks.items():
        negatives = definition.test.negatives
        assert track == "mini" or negatives == "all" or negatives >= 2000


@pytest.mark.parametrize(
    ("old", "new", "saying"),
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
        ("[tracks.mini", "[tracks.huge", ["tracks.huge", "'mini', 'small' or 'full'"]),
        ('"digits", split = "test"', '"photos", split = "test"', ["source", "'digits'"]),
        ('split = "test"', 'split = "rest"', ["split", "'test'"]),
        ("positives = 50\n", "", ["tracks.mini.test.positives", "required"]),
        ("version = 1", 'version = "one"', ["version", "integer"]),
        ('name = "made-up"', 'name = "Made Up/.."', ["name", "pattern"]),
        ("version = 1", "version = = 1", ["cannot be read as TOML", "line 3"]),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, saying: list[str]
) -> None:
    path = _write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(AttnbenchError) as caught:
        read_task(path)
    for words in [str(path), *saying]:
        assert words in str(caught.value)


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(AttnbenchError, match="cannot be read"):
        read_task(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AttnbenchError, match="cannot be read"):
        read_task(path)


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttnbenchError, match=r"'nosy-mnist'; the tasks are .*noisy-mnist"):
        load_task("nosy-mnist")


def test_the_hash_is_of_the_content_not_of_its_writing(tmp_path: Path) -> None:
    before = read_task(_write(tmp_path, GOOD)).content_hash
    rewritten = GOOD.replace("timeout = 60", "# a comment\ntimeout = 60.0")
    assert read_task(_write(tmp_path, rewritten)).content_hash == before
    other = GOOD.replace("sigma = 0.5", "sigma = 0.6")
    assert read_task(_write(tmp_path, other)).content_hash != before
