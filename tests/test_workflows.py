"""GitHub workflows: least privilege, pinned actions, and the scripts that they run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnbench
from attnbench.records.audit import audit_file
from attnbench.records.companions import fingerprint_of
from attnbench.records.outcome import scores_table
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.records.verification import Verification, badge_of, path_beside

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

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


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", folder, *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run_script(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the workflows with the package under test and this interpreter."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ATTNBENCH_TASK": "noisy-mnist",
    }
    return subprocess.run(
        [ROOT / ".github" / name, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("identity", "claims", "outcome"),
    [
        ({"submission_sha256": "b" * 64}, True, "failed verification"),
        # It cannot be run here. So it may not claim that it was verified elsewhere.
        ({"task": "unknown"}, True, "failed verification"),
        ({"task": "unknown"}, False, "not verified"),
    ],
)
def test_a_record_of_a_pull_request_is_verified_whatever_it_says_of_itself(
    tmp_path: Path,
    make_record: Callable[..., Record],
    identity: dict[str, str],
    claims: bool,
    outcome: str,
) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "before")
    base = git(tmp_path, "rev-parse", "HEAD")
    store = RecordStore(tmp_path / "published")
    scores = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.5, -0.25]))
    record = make_record(submission="none", **identity)
    path = store.save(record, scores)
    if claims:
        forged = Verification(
            record_sha256=fingerprint_of(path),
            targets=("cat",),
            problems=(),
            environment=record.environment,
            created=record.created,
        )
        path_beside(path).write_text(forged.model_dump_json())
        assert badge_of(path, []) == "verified"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "after")
    done = run_script("verify-changed", tmp_path, base)
    assert f"none@shipped-digits-cnn@seed0@cpu.json: {outcome}\n" in done.stdout, done.stderr
    assert done.returncode == (outcome == "failed verification")
    audit_file(path).write_text("{}")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "with an audit")
    done = run_script("verify-changed", tmp_path, base)
    assert done.returncode == 1 and f"remove {audit_file(path).name}" in done.stdout


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_only_changed_submissions_are_judged(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "submissions" / "none", tmp_path / "submissions" / "old")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "before")
    base = git(tmp_path, "rev-parse", "HEAD")
    new = tmp_path / "submissions" / "new $(touch owned)"
    shutil.copytree(ROOT / "submissions" / "none", new)
    (tmp_path / "submissions" / "README.md").write_text("no submission")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "after")
    result = run_script("judge-changed", tmp_path, base)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("judged: submissions/new $(touch owned)\n")
    assert "none: ok" in result.stdout and "noisy-mnist" in result.stdout
    assert not (tmp_path / "owned").exists()


def test_only_the_job_that_opens_the_issue_may_write() -> None:
    text = (ROOT / ".github" / "workflows" / "verify.yml").read_text()
    judge, issue = text.split("\n  issue:\n")
    assert "write" not in judge and ".github/verify-published" in judge
    assert re.findall(r"\S+: write", issue) == ["issues: write"]
    # It neither checks out the repository nor installs anything of it.
    assert re.findall(r"uses: actions/([\w-]+)", issue) == ["download-artifact"]


def test_records_are_run_again_and_failures_reported(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    frame = attnbench.evaluate(["none"], tasks=["noisy-mnist"], records=folder)
    record = Path(frame["record"][0])

    def edit(name: str, change: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads((record.parent / name).read_text())
        change(content)
        (record.parent / name).write_text(json.dumps(content))

    def verify() -> tuple[int, str]:
        # The script runs `attnbench` from the folder of this interpreter.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        result = subprocess.run(
            [sys.executable, ROOT / ".github" / "verify-published", folder, "1", "report.md"],
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert result.stderr == ""
        return result.returncode, (tmp_path / "report.md").read_text()

    # A published record of an earlier submission is listed. It is no failure.
    published = ROOT / "published" / "mini" / "noisy-mnist"
    for file in published.glob("images-*"):
        shutil.copy(file, record.parent)
    names = []
    for seed in (1, 2):
        for file in published.glob("none@*@seed0@*"):
            shutil.copy(file, record.parent / file.name.replace("seed0", f"seed{seed}"))
        names.append(f"none@shipped-digits-cnn@seed{seed}@cpu.json")
        other = {"submission_sha256": "0" * 64, "seed": seed}
        edit(names[-1], lambda content, other=other: content["identity"].update(other))
    earlier, edited = names
    code, report = verify()
    assert code == 0, report
    assert "1 of 1 records were run again. 2 others cannot be" in report
    assert "## Made with an earlier version\n\n    none\n" in report and "Failed" not in report
    assert record.with_name(f"{record.name}.verification").is_file()

    # One whose figures were edited has failed, and so has one whose run gives something else.
    edit(edited, lambda content: content["summary"].update(d_prime=9.0))
    edit(
        record.name,
        lambda content: [each.update(images_sha256="0" * 64) for each in content["episodes"]],
    )
    (record.parent / "@everyone\n# title.json").write_text("{}")
    code, report = verify()
    assert code == 1 and "1 of 1 records were run again. 1 others cannot be" in report
    failed = report.split("## Failed")[1].split("## ")[0]
    assert edited in failed and record.name in failed and earlier not in failed
    # Everything from a record is in a code block.
    lines = failed.splitlines()[1:]
    assert "@everyone" in failed and all(not line or line.startswith("    ") for line in lines)
