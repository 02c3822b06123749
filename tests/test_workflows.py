"""What runs on a pull request: with least rights, pinned, and judging the folders that changed."""

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
def test_actions_are_pinned_by_commit_and_rights_are_said(workflow: Path) -> None:
    text = workflow.read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in used)
    assert "permissions:\n  contents: read\n" in text
    assert "pull_request_target" not in text
    # What a pull request says is never part of a script's text.
    scripts = re.findall(r"run: (?:\|\n((?: {10}.*\n)+)|(.*))", text)
    assert not any("${{" in script for pair in scripts for script in pair)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_a_changed_submission_is_judged_and_no_other(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", tmp_path, *who, *arguments]
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
    # The interpreter's folder has the attnbench under test.
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ATTNBENCH_TASK": "noisy-mnist",
    }
    done = subprocess.run(
        [ROOT / ".github" / "judge-changed", base],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("judged: submissions/new $(touch owned)\n")
    assert "none: ok" in done.stdout and "noisy-mnist" in done.stdout
    assert not (tmp_path / "owned").exists()
