"""Reading a submission: its manifest, lookup by path or name, and the hash of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench import submission as submission_module
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
    """A submission whose code fails when it is imported."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "submission.toml").write_text(MANIFEST)
    (folder / "submission.py").write_text("raise RuntimeError('must not be imported')\n")
    return folder


def test_loading_does_not_import_the_code(folder: Path) -> None:
    submission = load_submission(folder)
    assert submission.name == "mine"
    assert submission.folder == folder.resolve()
    assert len(submission.sha256) == 64
    assert load_submission(str(folder)) == submission


def test_settings_of_a_backbone_override_general_settings(folder: Path) -> None:
    submission = load_submission(folder)
    assert submission.hyperparameters_for("shipped/x") == {
        "lr": 0.1,
        "steps": 10,
        "stage": "block3",
    }
    overridden = submission.hyperparameters_for("torchvision/vgg16")
    assert overridden == {"lr": 0.1, "steps": 5, "stage": "features.23"}
    assert submission.declared_for("shipped/x") == 1
    assert submission.declared_for("torchvision/vgg16") == 512


def test_booleans_and_integers_keep_their_types(folder: Path) -> None:
    (folder / "submission.toml").write_text(
        'name = "n"\ntitle = "t"\nauthors = ["a"]\n[hyperparameters]\na = true\nb = 1\nc = 1.0'
    )
    values = load_submission(folder).hyperparameters_for("any")
    assert [type(value) for value in values.values()] == [bool, int, float]


def test_lists_are_given_as_lists(folder: Path) -> None:
    (folder / "submission.toml").write_text(
        'name = "n"\ntitle = "t"\nauthors = ["a"]\n'
        '[hyperparameters]\na = [0.1, 1]\nb = ["x", true]\nc = []'
    )
    values = load_submission(folder).hyperparameters_for("any")
    assert values == {"a": [0.1, 1], "b": ["x", True], "c": []}


@pytest.mark.parametrize("missing", ["submission.toml", "submission.py"])
def test_error_names_the_missing_file(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(AttnbenchError, match=f"has no {missing}"):
        load_submission(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine"', "", "name: is missing"),
        ('name = "mine"', 'name = "-x/../y"', "name: .*pattern"),
        ("declared_parameters = 1\n", "colour = 1\n", r"colour: unknown key \(allowed: name,"),
        ("declared_parameters = 512", "colour = 1", r"colour: unknown key \(allowed: declared"),
        ("declared_parameters = 1\n", "declared_parameters = -1\n", "declared_parameters: "),
        ("declared_parameters = 1\n", "declared_parameters = true\n", "declared_parameters: "),
        ('authors = ["A. Author"]', "authors = []", "authors: "),
        ("name = ", "naem = ", "naem: unknown key; did you mean name?"),
        ("declared_parameters = 1\n", "lr = 1\n", r"lr: unknown key.*under \[hyperparameters\]"),
        ("lr = 0.1", "lr = 2026-01-01", "hyperparameters.lr: a hyperparameter .*date in quotes"),
        ("lr = 0.1", "lr = [[1, 2], [3]]", "hyperparameters.lr: is a list of lists.*a flat list"),
        ("lr = 0.1", "lr = { head = 0.1 }", r"lr: is a table; .*such as `lr_head = …`"),
        ("lr = 0.1", f"lr = {[0] * 1001}", "hyperparameters.lr: .*a list of up to 1,000"),
        (
            "declared_parameters = 1\n",
            'libraries = ["peft>=1"]\n',
            "libraries.0: .*without versions",
        ),
        ("declared_parameters = 1\n", 'libraries = ["sklearn"]\n', 'libraries: .*"scikit-learn"'),
        ("lr = 0.1", '"not a name" = 0.1', "hyperparameters.not a name: "),
        ("lr = 0.1", f'lr = "{"x" * 1001}"', "hyperparameters.lr: "),
        ("lr = 0.1", "lr = ", "is not valid TOML"),
    ],
)
def test_error_for_an_invalid_manifest_names_file_and_key(
    folder: Path, old: str, new: str, message: str
) -> None:
    assert old in MANIFEST
    (folder / "submission.toml").write_text(MANIFEST.replace(old, new, 1))
    with pytest.raises(AttnbenchError, match=message) as error:
        load_submission(folder)
    assert "submission.toml" in str(error.value)


def test_manifest_that_is_not_utf8_is_an_error(folder: Path) -> None:
    (folder / "submission.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(AttnbenchError, match="is not valid TOML"):
        load_submission(folder)


def test_error_for_an_unknown_name_lists_known_names(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(submission_module, "submissions_folder", lambda: folder.parent)
    with pytest.raises(AttnbenchError, match=r"no submission 'nope'.*mine"):
        load_submission("nope")
    with pytest.raises(AttnbenchError, match="no submission"):
        load_submission("../nope")


def test_shipped_submission_is_found_by_name(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(submission_module, "submissions_folder", lambda: folder.parent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_submission("mine").folder == folder.resolve()
    assert load_submission("submissions/mine").folder == folder.resolve()


def test_file_in_place_of_a_folder_is_an_error(folder: Path) -> None:
    with pytest.raises(AttnbenchError, match="is a file"):
        load_submission(folder / "submission.py")


def test_hash_depends_on_file_names_and_contents_only(folder: Path) -> None:
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


def test_hash_does_not_depend_on_the_location(folder: Path, tmp_path: Path) -> None:
    first = load_submission(folder).sha256
    assert load_submission(folder.rename(tmp_path / "moved")).sha256 == first


def test_too_large_folder_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission_module, "SIZE_LIMIT", 2**20)
    (folder / "weights.bin").write_bytes(bytes(2**20))
    with pytest.raises(AttnbenchError, match="holds more than 1 MiB"):
        load_submission(folder)


def test_link_out_of_the_folder_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(AttnbenchError, match="is a link out of the submission"):
        load_submission(folder)
