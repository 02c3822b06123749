"""Evaluating and checking submissions from the command line."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
from torchvision import models

import attnbench
from attnbench.records.record import Record
from attnbench.records.rows import COLUMNS
from attnbench.records.scores import read_scores
from attnbench.resources import submissions_folder
from attnbench.statistics.detection import detect
from tests.command_line import run
from tests.conftest import SMALL_TASKS

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

Write = Callable[[str, str], Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
TASK = ["--task", str(SMALL_TASKS / "clear-digits.toml")]
SHIPPED = sorted(path.name for path in submissions_folder().iterdir() if path.is_dir())
BROKEN = "def adapt(backbone, pos, neg): raise RuntimeError('no luck today')"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `attnbench` with the given arguments in an empty folder."""
    return functools.partial(run, folder=tmp_path)


def test_evaluate_prints_what_it_records_and_reuses_records(
    command: Command, tmp_path: Path
) -> None:
    first = command("evaluate", "none", *TASK, "--json")
    assert first.returncode == 0, first.stderr
    (row,) = [json.loads(line) for line in first.stdout.splitlines()]
    assert tuple(row) == COLUMNS
    path = tmp_path / row["record"]
    record = Record.model_validate_json(path.read_bytes())
    assert row["d_prime"] == record.summary.d_prime and row["parameters_added"] == 0

    scores = read_scores(path, record).to_pandas()
    for episode in record.episodes:
        rows = scores[scores.target == episode.target]
        detection = detect(rows.score.to_numpy(), rows.present.to_numpy())
        assert episode.measures is not None
        assert detection.d_prime == episode.measures.d_prime
        assert detection.auc == episode.measures.auc

    written = path.stat().st_mtime_ns
    second = command("evaluate", "none", *TASK, "--json")
    assert second.returncode == 0 and second.stdout == first.stdout
    assert "reusing 1 existing record (" in second.stderr
    assert path.stat().st_mtime_ns == written

    fresh = command("evaluate", "none", *TASK, "--fresh", "--json", "--progress", "json")
    events = [json.loads(line) for line in fresh.stderr.splitlines()]
    done = [event["target"] for event in events if event["event"] == "episode done"]
    assert done == [episode.target for episode in record.episodes]
    assert events[0]["episodes"] == {"clear-digits": len(done)}
    assert path.stat().st_mtime_ns > written
    # A second measurement gives the same results, except for times and memory.
    measured = ("seconds", "passes", "memory")
    untimed = [name for name in COLUMNS if not any(part in name for part in measured)]
    fresh_row = json.loads(fresh.stdout)
    assert [fresh_row[name] for name in untimed] == [row[name] for name in untimed]


def test_failed_submission_is_a_row_and_does_not_affect_other_rows(
    command: Command, submission_folder: Write, tmp_path: Path
) -> None:
    broken = submission_folder("broken", BROKEN)
    file = broken / "submission.py"
    result = command("evaluate", broken, "none", *TASK, "--json")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    rows = {row["submission"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows["broken"]["status"] == "failed" and rows["broken"]["d_prime"] is None
    assert "no luck today" in rows["broken"]["reason"]
    assert rows["none"]["status"] == "ok" and rows["none"]["d_prime"] > 0.5
    record = Record.model_validate_json((tmp_path / rows["broken"]["record"]).read_bytes())
    assert "RuntimeError: no luck today" in record.episodes[0].detail  # the end of the traceback
    assert command("leaderboard").returncode == 0
    table = command("evaluate", broken, "none", *TASK)
    assert table.returncode == 1 and "no luck today" in table.stdout
    assert f'      File "{file}", line 1, in adapt\n' in table.stdout
    assert "Traceback" not in table.stderr
    assert "retrying 1 failed record" in table.stderr and "reusing 1 existing" in table.stderr


@pytest.mark.parametrize(
    "name",
    [
        name if name == "attention" else pytest.param(name, marks=pytest.mark.slow)
        for name in SHIPPED
    ],
)
def test_shipped_submissions_pass_their_check(name: str) -> None:
    report = attnbench.check(name)
    assert report.ok, report.problems


def test_check_uses_weights_of_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("tests must not download anything")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "squeezenet1_1-mine.safetensors"
    safetensors.torch.save_file(models.squeezenet1_1().state_dict(), file)
    report = attnbench.check("none", backbone="torchvision/squeezenet1_1", data=tmp_path)
    assert report.ok, report.problems


# The parameters added and changed on VGG-16, as papers and manifests give them.
VGG16_COUNTS = {
    "none": (0, 0),
    "bias_only": (1, 0),
    "attention": (512, 0),
    "last_layer": (0, 4_097_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VGG16_COUNTS)
def test_parameter_counts_on_vgg16(command: Command, name: str) -> None:
    result = command("check", name, "--backbone", "torchvision/vgg16", "--untrained", "--json")
    assert result.returncode == 0, result.stdout
    report = json.loads(result.stdout)
    assert (report["parameters_added"], report["parameters_changed"]) == VGG16_COUNTS[name]


@pytest.mark.slow
def test_bias_only_moves_the_criterion_and_nothing_else(tmp_path: Path) -> None:
    frame = attnbench.evaluate(["none", "bias_only"], tasks=["noisy-mnist"], records=tmp_path)
    assert tuple(frame.columns) == COLUMNS and frame["status"].tolist() == ["ok", "ok"]
    none, bias = (frame[frame.submission == name].iloc[0] for name in ("none", "bias_only"))
    assert none["auc"] == pytest.approx(bias["auc"], abs=1e-9)
    assert none["criterion"] > bias["criterion"] + 0.3
    assert (none["parameters_added"], bias["parameters_added"]) == (0, 1)
