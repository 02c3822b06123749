"""Adaptation files: what several tasks have in common, in one file that their tracks name."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.errors import AttnbenchError
from attnbench.tasks import FolderSource, TaskDefinition, read_task

HEAD = """
name = "pets"
version = 1
title = "Pets"
reference = "none"
description = "for a test"
"""
COMMON = """
backbones = ["shipped/digits-cnn"]
targets = "all"
timeout = 60
labels = { cat = 3 }
"""
ADAPT = """
source = { kind = "folder", path = "photos", split = { adapt = 0.5, test = 0.5 } }
positives = 20
negatives = 20
"""
TEST = """
[tracks.mini.test]
source = { kind = "digits", split = "test" }
positives = 50
negatives = 400
"""
SHARED = f"[tracks.mini]{COMMON}[tracks.mini.adapt]{ADAPT}"
OWN = f'{HEAD}[tracks.mini]\nadaptation = "common/pets.toml"\n{TEST}'


def _write(folder: Path, task: str = OWN, shared: str = SHARED) -> Path:
    (folder / "common").mkdir(parents=True, exist_ok=True)
    (folder / "common" / "pets.toml").write_text(shared, encoding="utf-8")
    (folder / "pets.toml").write_text(task, encoding="utf-8")
    return folder / "pets.toml"


def _read(folder: Path, task: str = OWN, shared: str = SHARED) -> TaskDefinition:
    return read_task(_write(folder, task, shared))


def test_a_task_is_the_same_whether_its_adaptation_is_shared_or_not(tmp_path: Path) -> None:
    shared = _read(tmp_path)
    alone = _read(tmp_path, f"{HEAD}[tracks.mini]{COMMON}[tracks.mini.adapt]{ADAPT}{TEST}")
    assert shared.content_hash("mini") == alone.content_hash("mini")
    assert shared.model_dump() == alone.model_dump()
    assert shared.tracks["mini"].labels == {"cat": 3}


def test_a_task_may_have_keys_of_its_own(tmp_path: Path) -> None:
    own = OWN.replace("adaptation", "timeout = 5\nadaptation")
    task = _read(tmp_path, own, SHARED.replace("timeout = 60", ""))
    assert task.tracks["mini"].timeout == 5
    # Another track of the same task need not share anything.
    other = f"{COMMON}[tracks.full.adapt]{ADAPT}{TEST.replace('mini', 'full')}"
    both = _read(tmp_path, f"{OWN}[tracks.full]{other}")
    assert both.tracks["full"].adapt.positives == both.tracks["mini"].adapt.positives


def test_a_folder_is_relative_to_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a")
    other = tmp_path / "b" / "pets.toml"
    other.parent.mkdir()
    other.write_text(OWN.replace("common/", "../a/common/"))
    monkeypatch.chdir(tmp_path / "a")
    first, second, third = map(read_task, (path, other, Path("pets.toml")))
    source = first.tracks["mini"].adapt.source
    assert isinstance(source, FolderSource)
    assert source.folder.resolve() == tmp_path / "a" / "common" / "photos"
    assert first == third
    assert second.content_hash("mini") == first.content_hash("mini")
    (folder,) = second.tracks["mini"].folders
    assert folder.resolve() == source.folder.resolve()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shipped/digits-cnn", "shipped/digits-cnn"),
        ("net.toml", "common/net.toml"),
        ("../net.py:make", "common/../net.py:make"),
        ("/net.toml", "/net.toml"),
    ],
)
def test_a_backbone_of_ones_own_is_relative_to_the_file_that_names_it(
    tmp_path: Path, name: str, expected: str
) -> None:
    task = _read(tmp_path, shared=SHARED.replace("shipped/digits-cnn", name))
    assert task.tracks["mini"].backbones == (expected,)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # In the task.
        ('"common/pets.toml"', "3", "pets.toml is not a valid task: tracks.mini.adaptation: must"),
        (
            "common/pets",
            "gone",
            r"cannot read the adaptation file .*gone\.toml, which tracks\.mini\.adaptation in .*"
            "No such file",
        ),
        ("common/pets.toml", "common", "cannot read the adaptation file .*directory"),
        ("mini", "small", r"common/pets\.toml has no \[tracks\.small\].*its tracks are mini"),
        ("adaptation", "timeout = 3\nadaptation", "timeout of .*both in .*/pets.toml and .*common"),
        ("adaptation", "adaption", r"adaption: unknown key; did you mean adaptation\?"),
        # In the adaptation file.
        ("timeout = 60", "timeout = 0", r"common/pets\.toml is not a valid adaptation file: .*timeout"),
        ("timeout = 60", "timeuot = 0", r"timeuot: unknown key; did you mean timeout\?"),
        ("timeout = 60", 'adaptation = "../pets.toml"', "adaptation: unknown key.*allowed here: back"),
        ("[tracks.mini.adapt]", "[x]\n[tracks.mini.adapt]", r"x: unknown key .allowed here: tracks\)"),
        ("photos", 'photos", base = "/', "common/pets.toml .*`base` is not allowed here"),
        ("positives = 20", "positives = 0", "adapt.positives: .*greater than 0"),
        ("positives = 20", "positives =", "cannot read .*common/pets.toml as TOML"),
        ("timeout = 60\n", "", r"/pets\.toml is not a valid task: tracks\.mini\.timeout: is missing"),
    ],
)  # fmt: skip
def test_errors_name_the_file_the_key_and_the_remedy(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert (old in OWN) or (old in SHARED)
    task, shared = (
        (OWN.replace(old, new), SHARED) if old in OWN else (OWN, SHARED.replace(old, new))
    )
    with pytest.raises(AttnbenchError, match=expected):
        _read(tmp_path, task, shared)


def test_an_adaptation_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path)
    (tmp_path / "common" / "pets.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(AttnbenchError, match=r"common/pets\.toml is not a text file"):
        read_task(path)


@pytest.mark.parametrize("tracks", ['tracks = "mini"', "[tracks]\nmini = 3"])
def test_a_track_that_is_no_table_is_an_error(tmp_path: Path, tracks: str) -> None:
    with pytest.raises(AttnbenchError, match="not a valid task"):
        _read(tmp_path, HEAD + tracks)
