"""The main job as a user runs it: real processes, real files, one of them killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
from torchvision import models

import attnbench
from attnbench.records.record import Record
from attnbench.records.rows import COLUMNS
from attnbench.resources import submissions_folder
from attnbench.statistics.detection import detect

Write = Callable[[str, str], Path]
DIGITS = ["--task", "noisy-mnist"]
SHIPPED = sorted(path.name for path in submissions_folder().iterdir() if path.is_dir())
BROKEN = "def adapt(backbone, pos, neg): raise RuntimeError('no luck today')"


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(_line(*arguments), cwd=tmp_path, capture_output=True, text=True)

    return run


def _line(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "attnbench", *map(str, arguments)]


def test_a_run_writes_what_it_prints_and_a_second_one_is_free(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    first = command("evaluate", "none", *DIGITS, "--json")
    assert first.returncode == 0, first.stderr
    (row,) = [json.loads(line) for line in first.stdout.splitlines()]
    assert tuple(row) == COLUMNS
    path = tmp_path / row["record"]
    record = Record.model_validate_json(path.read_bytes())
    assert row["d_prime"] == record.summary.d_prime and row["parameters_added"] == 0

    scores = pd.read_parquet(path.with_suffix(".parquet"))
    for episode in record.episodes:
        its = scores[scores.target == episode.target]
        found = detect(its.score.to_numpy(), its.present.to_numpy())
        assert episode.measures is not None
        assert found.d_prime == episode.measures.d_prime and found.auc == episode.measures.auc

    written = path.stat().st_mtime_ns
    again = command("evaluate", "none", *DIGITS, "--json")
    assert again.returncode == 0 and again.stdout == first.stdout
    assert "1 record is already there" in again.stderr
    assert path.stat().st_mtime_ns == written
    fresh = command("evaluate", "none", *DIGITS, "--fresh", "--json", "--progress", "json")
    events = [json.loads(line) for line in fresh.stderr.splitlines()]
    done = [each["target"] for each in events if each["event"] == "episode done"]
    assert done == [episode.target for episode in record.episodes]
    assert events[0]["episodes"] == {"noisy-mnist": len(done)}
    assert path.stat().st_mtime_ns > written
    # measured anew: the same figures, other times
    same = [name for name in COLUMNS if "seconds" not in name and "passes" not in name]
    renewed = json.loads(fresh.stdout)
    assert [renewed[name] for name in same] == [row[name] for name in same]


def test_a_failure_is_a_row_and_harms_no_other(
    command: Callable[..., subprocess.CompletedProcess[str]],
    submission_folder: Write,
) -> None:
    broken = submission_folder("broken", BROKEN)
    result = command("evaluate", broken, "none", *DIGITS, "--json")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    rows = {row["submission"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows["broken"]["status"] == "failed" and rows["broken"]["d_prime"] is None
    assert "no luck today" in rows["broken"]["reason"]
    assert rows["none"]["status"] == "ok" and rows["none"]["d_prime"] > 0.5
    # the reason with its traceback is in the record
    assert command("leaderboard").returncode == 0
    table = command("evaluate", broken, "none", *DIGITS)
    assert table.returncode == 1 and "no luck today" in table.stdout


@pytest.mark.parametrize(
    "name",
    [n if n == "attention" else pytest.param(n, marks=pytest.mark.slow) for n in SHIPPED],
)
def test_shipped_submissions_pass_their_check(name: str) -> None:
    report = attnbench.check(name)
    assert report.ok, report.problems


def test_a_check_takes_weights_from_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **other: object) -> None:
        raise OSError("a test downloads nothing")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "squeezenet1_1-mine.safetensors"
    safetensors.torch.save_file(models.squeezenet1_1().state_dict(), file)
    report = attnbench.check("none", backbone="torchvision/squeezenet1_1", data=tmp_path)
    assert report.ok, report.problems


# parameters added and changed on VGG-16, as issue, paper and manifest have them
VGG16_COUNTS = {
    "none": (0, 0),
    "bias_only": (1, 0),
    "attention": (512, 0),
    "last_layer": (0, 4_097_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VGG16_COUNTS)
def test_counts_on_vgg16(
    command: Callable[..., subprocess.CompletedProcess[str]], name: str
) -> None:
    result = command("check", name, "--backbone", "torchvision/vgg16", "--untrained", "--json")
    assert result.returncode == 0, result.stdout
    report = json.loads(result.stdout)
    assert (report["parameters_added"], report["parameters_changed"]) == VGG16_COUNTS[name]


def test_only_the_criterion_of_bias_only_moves(tmp_path: Path) -> None:
    frame = attnbench.evaluate(["none", "bias_only"], tasks=["noisy-mnist"], records=tmp_path)
    assert tuple(frame.columns) == COLUMNS and frame["status"].tolist() == ["ok", "ok"]
    none, bias = (frame[frame.submission == name].iloc[0] for name in ("none", "bias_only"))
    assert none["auc"] == pytest.approx(bias["auc"], abs=1e-9)
    assert none["criterion"] > bias["criterion"] + 0.3
    assert (none["parameters_added"], bias["parameters_added"]) == (0, 1)
