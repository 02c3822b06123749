"""`attnbench verify`: honest records are verified, and forged ones are found out."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import attnbench
from attnbench.commands import reproduction
from attnbench.commands.reproduction import mismatches
from attnbench.judge.background_load import BackgroundLoad
from attnbench.leaderboard.markdown import markdown_of
from attnbench.leaderboard.standings import standings_of
from attnbench.records.integrity import contradictions
from attnbench.records.outcome import EpisodeOutcome, scores_table
from attnbench.records.record import EpisodeResult, Identity, Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.records.summary import summarise
from attnbench.records.verification import badge_of, path_beside
from attnbench.statistics.detection import detect
from attnbench.vocabulary import Badge
from tests.command_line import run

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON of a real record, with its times marked as contended: other tests may be running."""
    folder = tmp_path_factory.mktemp("records")
    frame = attnbench.evaluate(["bias_only"], tasks=["noisy-mnist"], records=folder)
    path = Path(frame["record"][0])
    edit_episodes(path, lambda episode: episode["cost"].update(contended=True))
    return path


@pytest.fixture
def record(measured: Path, tmp_path: Path) -> Path:
    """A copy of the real record that a test may change."""
    for file in measured.parent.glob("*"):
        shutil.copy(file, tmp_path)
    return tmp_path / measured.name


def edit(path: Path, change: Edit) -> None:
    """Change the JSON of a record."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_episodes(path: Path, change: Edit) -> None:
    """Change all episodes of a record, and its summary to match."""

    def change_all(content: dict[str, Any]) -> None:
        for episode in content["episodes"]:
            change(episode)
        results = [EpisodeResult.model_validate(episode) for episode in content["episodes"]]
        content["summary"] = summarise(results).model_dump()

    edit(path, change_all)


def replace_scores(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the scores of a record, and the hash in the record to match, like a careful forger."""
    file = path.with_suffix(".parquet")
    buffer = io.BytesIO()
    change(pd.read_parquet(file)).to_parquet(buffer, index=False)
    file.write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    edit(path, lambda content: content.update(scores_sha256=digest))


def test_differences_up_to_rounding_are_tolerated(make_record: Callable[..., Record]) -> None:
    record = make_record(d_prime=3.0)
    recorded, *_ = record.episodes
    rng = np.random.default_rng(0)
    images = [str(number) for number in range(1000)]
    present = np.arange(1000) < 100
    scores = rng.normal(size=1000)

    def mismatches_of(result: EpisodeResult, noise: float) -> list[str]:
        noisy_scores = scores + noise * rng.normal(size=1000)
        before, now = (
            scores_table("cat", images, present, values) for values in (scores, noisy_scores)
        )
        return list(mismatches(recorded, before, EpisodeOutcome(result, now, record.environment)))

    assert mismatches_of(recorded, 0.001) == []
    assert "of 1000 scores differ" in mismatches_of(recorded, 0.03)[0]
    assert mismatches_of(make_record(d_prime=3.05).episodes[0], 0.0) == []
    changed = make_record(d_prime=3.15).episodes[0]
    assert mismatches_of(changed, 0.0) == ["d′ recorded as 3.00, now 3.15"]


@pytest.mark.parametrize(
    ("device_name", "outcome"),
    [(None, "failed verification"), ("another", "inconclusive")],
)
def test_another_precision_is_a_problem_only_where_the_device_is_the_same(
    record: Path, device_name: str | None, outcome: str
) -> None:
    """A device that cannot compute in the recorded precision cannot verify the record."""
    edit_episodes(record, lambda episode: episode.update(precision=["tf32"]))
    edit(record, lambda content: content["summary"].update(precision=["tf32"]))
    if device_name is not None:
        edit(record, lambda content: content["environment"].update(device_name=device_name))
    code, output = verify(record, "--sample", "1")
    assert code == 1 and outcome in output
    assert "recorded in tf32, now computed in float32" in " ".join(output.split())
    assert ("not verifiable on this device" in output) == (device_name is not None)


def test_scores_of_other_images_are_a_mismatch(make_record: Callable[..., Record]) -> None:
    record = make_record()
    recorded, *_ = record.episodes
    present, scores = np.array([True, False]), np.array([1.0, -1.0])
    before = scores_table("cat", ["1", "2"], present, scores)
    for images, flags in ((["1", "3"], present), (["1", "2"], ~present), (["1"], present[:1])):
        now = scores_table("cat", images, flags, scores[: len(images)])
        rerun = EpisodeOutcome(recorded, now, record.environment)
        problems = list(mismatches(recorded, before, rerun))
        assert problems == ["the scores are of different images"]


def read(path: Path) -> Record:
    return RecordStore(path.parent).read(path)


def test_unchanged_record_contradicts_nothing(record: Path) -> None:
    assert contradictions(record, read(record)) == []
    assert badge_of(record, contradictions(record, read(record))) == "self-reported"


# A change to a record, and a part of the contradiction that it makes.
FORGERIES: dict[str, tuple[Edit, str]] = {
    "d-prime": (lambda c: c["summary"].update(d_prime=9.0), "its d_prime is 9.0"),
    "an-episode": (lambda c: c["episodes"][1]["measures"].update(d_prime=9.0), "its scores give"),
    "hits": (lambda c: c["episodes"][0]["measures"].update(hits=0), "its hits"),
    "time": (lambda c: c["summary"].update(adaptation_seconds=1e-9), "adaptation_seconds"),
    "parameters": (lambda c: c["summary"].update(parameters_added=0), "parameters_added"),
    "precision": (lambda c: c["summary"].update(precision=["tf32"]), "its precision is"),
    "fewer-targets": (lambda c: c["episodes"].pop(), "its targets is"),
    "hash": (lambda c: c.update(scores_sha256="0" * 64), "hash differs"),
    "status": (lambda c: c.update(status="failed"), "its status is failed"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_edited_record_contradicts_itself(record: Path, name: str) -> None:
    change, text = FORGERIES[name]
    edit(record, change)
    problems = contradictions(record, read(record))
    assert any(text in problem for problem in problems), problems
    assert badge_of(record, contradictions(record, read(record))) == "failed verification"
    badges: dict[Identity, Badge] = {read(record).identity: "failed verification"}
    page = markdown_of(standings_of([read(record)], badges, {}), read(record).created)
    assert "| failed verification |" in page


def test_replaced_scores_contradict_the_record(record: Path) -> None:
    present = read_scores(record, read(record))["present"].to_numpy()
    replace_scores(record, lambda scores: scores.assign(score=present - 0.5))
    assert any("d_prime" in problem for problem in contradictions(record, read(record)))
    record.with_suffix(".parquet").write_bytes(b"PAR1")
    assert "hash" in contradictions(record, read(record))[0]
    record.with_suffix(".parquet").unlink()
    assert "cannot be read" in contradictions(record, read(record))[0]


@pytest.mark.parametrize(
    ("score", "problem"),
    [
        (float("nan"), "some of its scores are NaN or infinite"),
        (float("inf"), "some of its scores are NaN or infinite"),
        ("high", "the columns `present` and `score` are not booleans and floats"),
        (None, "the columns `present` and `score` are not booleans and floats"),
    ],
)
def test_scores_that_are_not_finite_numbers_are_a_contradiction(
    record: Path, score: object, problem: str
) -> None:
    replace_scores(
        record,
        lambda scores: scores.assign(
            score=[score, *scores["score"][1:]] if isinstance(score, float) else score
        ),
    )
    assert contradictions(record, read(record)) == [problem]
    assert badge_of(record, contradictions(record, read(record))) == "failed verification"


def test_honest_record_is_verified_and_loses_its_badge_when_edited(record: Path) -> None:
    verification = attnbench.verify(record, sample=1)
    assert verification.problems == () and len(verification.targets) == 1
    assert badge_of(record, contradictions(record, read(record))) == "verified"
    edit(record, lambda content: content.update(title="Another"))
    assert badge_of(record, contradictions(record, read(record))) == "self-reported"


def test_consistent_forgery_fails_when_it_is_run_again(record: Path) -> None:
    """Its scores, measures and hashes agree with each other, but not with another run."""

    def improve(scores: pd.DataFrame) -> pd.DataFrame:
        return scores.assign(score=(scores["score"] + present * 5).astype("float32"))

    present = read_scores(record, read(record))["present"].to_numpy()
    replace_scores(record, improve)
    scores = read_scores(record, read(record)).to_pandas()

    def change(episode: dict[str, Any]) -> None:
        rows = scores[scores["target"] == episode["target"]]
        detection = detect(rows["score"].to_numpy(), rows["present"].to_numpy())
        counts = {"hits": detection.counts.hits, "false_alarms": detection.counts.false_alarms}
        measures = {
            name: getattr(detection, name)
            for name in ("hit_rate", "false_alarm_rate", "d_prime", "criterion", "auc", "d_a")
        }
        episode["measures"].update(counts | measures)

    edit_episodes(record, change)
    assert contradictions(record, read(record)) == []
    verification = attnbench.verify(record, sample=1)
    assert any("scores differ" in problem for problem in verification.problems)
    assert badge_of(record, contradictions(record, read(record))) == "failed verification"


def verify(*arguments: object) -> tuple[int, str]:
    """Run `attnbench verify` and return its exit code and output."""
    ended = run("verify", *arguments)
    return ended.returncode, ended.stdout


def test_command_reports_success_problems_and_missing_files(record: Path) -> None:
    code, output = verify(record, "--sample", "1")
    assert code == 0 and ": verified on 1 target: " in output, output
    edit(record, lambda content: content["identity"].update(submission_sha256="0" * 64))
    code, output = verify(record, "--sample", "1", "--json")
    assert code == 1 and "is not the recorded version" in json.loads(output)["problems"][0]
    assert verify(record.with_name("nothing.json"))[0] == 2


@pytest.mark.parametrize(
    ("contended", "outcome", "badge"),
    [
        (False, "failed verification", "failed verification"),
        (True, "inconclusive", "self-reported"),
    ],
)
def test_time_too_short_to_be_true_fails_unless_other_work_disturbed_the_rerun(
    record: Path,
    monkeypatch: pytest.MonkeyPatch,
    contended: bool,
    outcome: str,
    badge: str,
) -> None:
    def forge(episode: dict[str, Any]) -> None:
        # A millionth of a pass.
        episode["cost"].update(contended=False, adaptation_seconds=1e-6, pass_seconds=1.0)

    edit_episodes(record, forge)
    monkeypatch.setattr(reproduction, "_MAX_EXTRA_SECONDS", 0.001)
    monkeypatch.setattr(BackgroundLoad, "is_contended", lambda _: contended)
    code, output = verify(record, "--sample", "1")
    assert code == 1 and outcome in output and "adaptation recorded as 0.00 passes" in output
    assert ("on an idle machine" in output) == contended
    assert badge_of(record, contradictions(record, read(record))) == badge


def test_invalid_verification_beside_a_record_gives_no_badge(record: Path) -> None:
    path_beside(record).write_text("{}")
    assert badge_of(record, contradictions(record, read(record))) == "self-reported"
    path_beside(record).write_bytes(b"x" * (2 << 20))
    assert badge_of(record, contradictions(record, read(record))) == "self-reported"
