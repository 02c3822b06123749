"""What README and docs say: links lead somewhere, commands run, and outputs are real ones."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.text import printable
from attnbench.resources import submissions_folder

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
DATA = Path(os.environ.get("ATTNBENCH_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"(?<!\\)\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


def _blocks(page: str) -> list[str]:
    """The shell blocks of a page."""
    return re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def _commands_in(block: str) -> list[list[str]]:
    """The attnbench commands of a shell block, without comments."""
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [line[1:] for line in lines if line and line[0] == "attnbench"]


def _commands(block_with: str) -> list[list[str]]:
    """The attnbench commands of README's shell block in which this text stands."""
    (block,) = [block for block in _blocks("README.md") if block_with in block]
    return _commands_in(block)


def _run(arguments: list[str], folder: Path) -> None:
    line = [sys.executable, "-m", "attnbench", *arguments]
    environment = os.environ | {"ATTNBENCH_TASK": "noisy-mnist"}
    result = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{arguments}: {printable(result.stderr)}"


def test_a_method_can_be_added_as_the_readme_says(tmp_path: Path) -> None:
    commands = _commands("attnbench new")
    assert [command[0] for command in commands] == ["new", "check", "evaluate"]
    for command in commands:
        _run(command, tmp_path)
    assert list(tmp_path.glob("records/mini/noisy-mnist/my-method@*.json"))


def test_contributing_shows_what_its_commands_print(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    shown = re.findall(r"```sh\nattnbench (.*?)\n```\n\n```text\n(.*?)\n```", text, re.DOTALL)
    assert [command.split()[0] for command, _ in shown] == ["new", "check", "evaluate"]
    for command, output in shown[:2]:  # the third takes other times each time
        line = [sys.executable, "-m", "attnbench", *command.split()]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.rstrip() == output


def test_the_readmes_other_commands_run(tmp_path: Path) -> None:
    commands = _commands("--gallery")
    of_task = Path("records", "mini", "noisy-mnist")
    shutil.copytree(ROOT / of_task, tmp_path / of_task)
    for command in commands:
        if command[0] != "evaluate":
            _run(command, tmp_path)
    assert (tmp_path / "digits.png").exists() and (tmp_path / "leaderboard.md").exists()


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"no MNIST in {DATA}")
def test_the_readmes_evaluations_run(tmp_path: Path) -> None:
    (tmp_path / "submissions").symlink_to(submissions_folder())
    for command in _commands("--gallery"):
        if command[0] == "evaluate":
            names = [
                str(path.relative_to(tmp_path))
                for word in command
                if "*" in word
                for path in sorted(tmp_path.glob(word))
                if path.is_dir()
            ]
            words = [word for word in command if "*" not in word]
            data = ["--data", str(DATA)] if "small" in words else []
            _run([words[0], *names, *words[1:], *data], tmp_path)


def test_the_readmes_first_line_installs_and_runs_the_main_job() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    first = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0].strip()
    assert "\n" not in first
    assert first.endswith("attnbench evaluate submissions/attention")
    ci = (ROOT / ".ci" / "run").read_text("utf-8").strip().splitlines()[-1]
    assert f"```sh\n{ci}\n```" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", _blocks("docs/scaling.md"), ids=lambda block: block.split("\n")[0]
)
def test_every_engine_runs_as_the_page_says(block: str, tmp_path: Path) -> None:
    for library in ("ray", "slurm"):
        if f"--engine {library}" in block:
            pytest.importorskip({"slurm": "submitit"}.get(library, library))
    for command in _commands_in(block):
        _run(command, tmp_path)
    evaluated = "evaluate" in block
    assert bool(list(tmp_path.glob("records/mini/noisy-mnist/*.json"))) == evaluated
