"""GitHub workflows: least privilege, pinned actions, and only changed submissions are judged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_permissions_are_minimal(workflow: Path) -> None:
    text = workflow.read_text()
    actions = re.findall(r"uses: (\S+)", text)
    assert actions and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in actions)
    assert "permissions:\n  contents: read\n" in text
    assert "pull_request_target" not in text
    # Texts of a pull request must not be inserted into scripts, where they would be executed.
    scripts = re.findall(r"run: (?:\|\n((?: {10}.*\n)+)|(.*))", text)
    assert not any("${{" in script for pair in scripts for script in pair)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_only_changed_submissions_are_judged(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", tmp_path, *author, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    shutil.copytree(ROOT / "submissions" / "none", tmp_path / "submissions" / "old")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "before")
    base = git("rev-parse", "HEAD")
    new = tmp_path / "submissions" / "new $(touch owned)"
    shutil.copytree(ROOT / "submissions" / "none", new)
    (tmp_path / "submissions" / "README.md").write_text("no submission")
    git("add", ".")
    git("commit", "-qm", "after")
    # The script runs `attnbench` from the folder of this interpreter, with the package under test.
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ATTNBENCH_TASK": "noisy-mnist",
    }
    result = subprocess.run(
        [ROOT / ".github" / "judge-changed", base],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("judged: submissions/new $(touch owned)\n")
    assert "none: ok" in result.stdout and "noisy-mnist" in result.stdout
    assert not (tmp_path / "owned").exists()
