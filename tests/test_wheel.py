"""A built wheel works from an empty folder, without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel is installed. Its dependencies are those of this environment."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("attnbench-*.whl")
    target = folder / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def _run(installed: Path, folder: Path, *arguments: str) -> str:
    # The folder of the wheel comes before the repository, which an editable installation names.
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", "from attnbench.cli.main import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_is_that_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import attnbench; print(attnbench.__file__)"]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_an_installed_wheel_carries_tasks_submissions_and_weights(
    installed: Path, tmp_path: Path
) -> None:
    assert "noisy-mnist" in _run(installed, tmp_path, "tasks")
    line = ["try", "attention", "--task", "noisy-mnist", "--target", "3"]
    assert "attention on noisy-mnist (mini)" in _run(installed, tmp_path, *line)
    assert "prototype: ok" in _run(installed, tmp_path, "check", "prototype")
