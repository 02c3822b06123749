"""Reading a submission: manifest, lookup by path or name, and the hash of its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench import submission as module
from attnbench.errors import AttnbenchError
from attnbench.submission import load_submission

MANIFEST = """
name = "mine"
title = "A method"
authors = ["A. Author"]
declared_parameters = 1

[hyperparameters]
lr = 0.1
steps = 10
stage = "block3"

[backbone."torchvision/vgg16"]
declared_parameters = 512
hyperparameters = { stage = "features.23", steps = 5 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "submission.toml").write_text(MANIFEST)
    (folder / "submission.py").write_text("raise RuntimeError('must not be imported')\n")
    return folder


def test_loads_without_importing_the_code(folder: Path) -> None:
    submission = load_submission(folder)
    assert submission.name == "mine"
    assert submission.folder == folder.resolve()
    assert len(submission.sha256) == 64
    assert load_submission(str(folder)) == submission


def test_backbone_settings_override_the_general_ones(folder: Path) -> None:
    submission = load_submission(folder)
    assert submission.hyperparameters_for("shipped/x") == {
        "lr": 0.1,
        "steps": 10,
        "stage": "block3",
    }
    own = submission.hyperparameters_for("torchvision/vgg16")
    assert own == {"lr": 0.1, "steps": 5, "stage": "features.23"}
    assert submission.declared_for("shipped/x") == 1
    assert submission.declared_for("torchvision/vgg16") == 512


def test_booleans_and_whole_numbers_keep_their_types(folder: Path) -> None:
    (folder / "submission.toml").write_text(
        'name = "n"\ntitle = "t"\nauthors = ["a"]\n[hyperparameters]\na = true\nb = 1\nc = 1.0'
    )
    values = load_submission(folder).hyperparameters_for("any")
    assert [type(value) for value in values.values()] == [bool, int, float]


@pytest.mark.parametrize("missing", ["submission.toml", "submission.py"])
def test_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(AttnbenchError, match=f"has no {missing}"):
        load_submission(folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "mine"', "", "name: is missing"),
        ('name = "mine"', 'name = "-x/../y"', "name: .*pattern"),
        ("declared_parameters = 1\n", "colour = 1\n", "colour: no such key; allowed are name,"),
        ("declared_parameters = 512", "colour = 1", "colour: no such key; allowed are declared"),
        ("declared_parameters = 1\n", "declared_parameters = -1\n", "declared_parameters: "),
        ("declared_parameters = 1\n", "declared_parameters = true\n", "declared_parameters: "),
        ('authors = ["A. Author"]', "authors = []", "authors: "),
        ("lr = 0.1", "lr = [0.1]", "hyperparameters.lr: a hyperparameter has a Python name"),
        ("lr = 0.1", '"not a name" = 0.1', "hyperparameters.not a name: "),
        ("lr = 0.1", f'lr = "{"x" * 1001}"', "hyperparameters.lr: "),
        ("lr = 0.1", "lr = ", "is not TOML"),
    ],
)
def test_wrong_manifest_names_file_and_key(folder: Path, old: str, new: str, said: str) -> None:
    assert old in MANIFEST
    (folder / "submission.toml").write_text(MANIFEST.replace(old, new, 1))
    with pytest.raises(AttnbenchError, match=said) as error:
        load_submission(folder)
    assert "submission.toml" in str(error.value)


def test_manifest_that_is_not_utf8(folder: Path) -> None:
    (folder / "submission.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(AttnbenchError, match="is not TOML"):
        load_submission(folder)


def test_unknown_name_lists_what_there_is(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(module, "submissions_folder", lambda: folder.parent)
    with pytest.raises(AttnbenchError, match=r"no submission 'nope'.*mine"):
        load_submission("nope")
    with pytest.raises(AttnbenchError, match="no submission"):
        load_submission("../nope")


def test_shipped_submission_by_name(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "submissions_folder", lambda: folder.parent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_submission("mine").folder == folder.resolve()
    assert load_submission("submissions/mine").folder == folder.resolve()


def test_file_instead_of_folder(folder: Path) -> None:
    with pytest.raises(AttnbenchError, match="is a file"):
        load_submission(folder / "submission.py")


def test_hash_follows_names_and_content_and_nothing_else(folder: Path) -> None:
    first = load_submission(folder).sha256
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"x")
    (folder / ".hidden").write_text("x")
    assert load_submission(folder).sha256 == first
    (folder / "README.md").write_text("x")
    second = load_submission(folder).sha256
    assert second != first
    (folder / "README.md").rename(folder / "README.txt")
    assert load_submission(folder).sha256 not in (first, second)


def test_hash_does_not_depend_on_the_place(folder: Path, tmp_path: Path) -> None:
    first = load_submission(folder).sha256
    assert load_submission(folder.rename(tmp_path / "moved")).sha256 == first


def test_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE_LIMIT", 2**20)
    (folder / "weights.bin").write_bytes(bytes(2**20))
    with pytest.raises(AttnbenchError, match="holds more than 1 MiB"):
        load_submission(folder)


def test_link_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(AttnbenchError, match="links out"):
        load_submission(folder)
