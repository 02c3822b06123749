"""Submissions and tasks of other packages are found by entry point, without importing them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attnbench.backbones.own_file import name_in_records
from attnbench.plugins import entry_point_folders
from attnbench.resources import submissions_folder, tasks_folder
from attnbench.submission import load_submission
from attnbench.tasks import list_tasks, load_task


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on `sys.path` with an installed package that raises when it is imported."""
    package = tmp_path / "other_package"
    shutil.copytree(submissions_folder() / "none", package / "methods" / "mine")
    package.joinpath("__init__.py").write_text("raise RuntimeError('imported')")
    manifest = package / "methods" / "mine" / "submission.toml"
    manifest.write_text(manifest.read_text().replace('"none"', '"mine"'))
    task = (tasks_folder() / "noisy-mnist.toml").read_text()
    package.joinpath("noisier.toml").write_text(task.replace('"noisy-mnist"', '"noisier"'))
    info = tmp_path / "other_package-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n"
    )
    info.joinpath("entry_points.txt").write_text(
        "[attnbench.submissions]\nmine = other_package.methods.mine\n"
        "gone = package_that_is_not_there\nlost = other_package.nowhere\n\n"
        "[attnbench.tasks]\nnoisier = other_package\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_submission_of_another_package_is_found_by_name_without_importing_it(site: Path) -> None:
    assert list(entry_point_folders("attnbench.submissions")) == ["mine"]
    submission = load_submission("mine")
    assert submission.name == "mine" and submission.folder.is_relative_to(site)


def test_a_task_of_another_package_is_listed_with_the_shipped_ones(site: Path) -> None:
    assert {"noisier", "noisy-mnist"} <= set(list_tasks())
    assert load_task("noisier").name == "noisier"


def test_a_package_cannot_replace_what_is_shipped(site: Path) -> None:
    entry_points = site / "other_package-1.0.dist-info" / "entry_points.txt"
    methods, tasks = site / "other_package" / "methods" / "mine", site / "other_package"
    (tasks / "noisy-mnist.toml").write_text((tasks / "noisier.toml").read_text())
    entry_points.write_text(
        "[attnbench.submissions]\nnone = other_package.methods.mine\n\n"
        "[attnbench.tasks]\nnoisy-mnist = other_package\n\n"
        "[attnbench.backbones]\nshipped/digits-cnn = other_package:network\n"
    )
    assert set(entry_point_folders("attnbench.submissions")) == {"none"} and methods.is_dir()
    assert load_submission("none").folder == submissions_folder() / "none"
    assert load_task("noisy-mnist").name == "noisy-mnist"
    assert name_in_records("shipped/digits-cnn") == "shipped/digits-cnn"


@pytest.mark.parametrize("package", ["__main__", ".", "a..b", "../x", "no package", "-"])
def test_an_entry_point_that_names_no_package_is_left_out(site: Path, package: str) -> None:
    entry_points = site / "other_package-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(f"[attnbench.submissions]\nmine = {package}\n")
    assert entry_point_folders("attnbench.submissions") == {}


def test_without_plugins_no_folder_is_returned() -> None:
    assert entry_point_folders("attnbench.tasks") == {}
