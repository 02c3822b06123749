"""A record that was tampered with is noticed; one that was not is verified."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import attnbench
from attnbench.commands import verify
from attnbench.cli.main import main
from attnbench.judge.background_load import BackgroundLoad
from attnbench.leaderboard.markdown import leaderboard_markdown
from attnbench.records.integrity import contradictions
from attnbench.records.record import EpisodeResult, Record
from attnbench.records.store import RecordStore
from attnbench.records.summary import summarise
from attnbench.records.verification import badge_of, path_beside
from attnbench.statistics.detection import detect
from attnbench.commands.verify import _differences

Edit = Callable[[dict[str, Any]], None]
Run = Callable[..., tuple[int | str | None, str]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real record: its JSON. Other tests run beside this one, so its times are contended."""
    folder = tmp_path_factory.mktemp("records")
    frame = attnbench.evaluate(["bias_only"], tasks=["imagenet-standard"], records=folder)
    path = Path(frame["record"][0])
    edit_episodes(path, lambda episode: episode["cost"].update(contended=True))
    return path


@pytest.fixture
def record(measured: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    for file in measured.parent.glob("*"):
        shutil.copy(file, tmp_path)
    return tmp_path / measured.name


def edit(path: Path, change: Edit) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_episodes(path: Path, change: Edit) -> None:
    """Other episodes, with the summary made to match."""

    def whole(content: dict[str, Any]) -> None:
        for episode in content["episodes"]:
            change(episode)
        results = [EpisodeResult.model_validate(each) for each in content["episodes"]]
        content["summary"] = summarise(results).model_dump()

    edit(path, whole)


def replace_scores(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Other scores, with the hash in the record made to match: a careful forger's work."""
    table = path.with_suffix(".parquet")
    buffer = io.BytesIO()
    change(pd.read_parquet(table)).to_parquet(buffer, index=False)
    table.write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    edit(path, lambda content: content.update(scores_sha256=digest))


@pytest.mark.parametrize("elsewhere", [False, True])
def test_another_device_may_compute_in_another_precision_and_no_more(
    make_record: Callable[..., Record], elsewhere: bool
) -> None:
    first, *_ = make_record(d_prime=3.0).episodes
    moved, *_ = make_record(d_prime=3.15).episodes
    rng = np.random.default_rng(0)
    then = pd.DataFrame({"image": range(1000), "present": np.arange(1000) < 100})
    scores = rng.normal(size=1000)

    def found(episode: EpisodeResult, error: float) -> list[str]:
        told = then.assign(score=scores), then.assign(score=scores + error * rng.normal(size=1000))
        return list(_differences(first, told[0], episode, told[1], elsewhere=elsewhere))

    assert found(first, 0.001) == []
    assert bool(found(first, 0.03)) != elsewhere
    assert bool(found(moved, 0.001)) != elsewhere
    assert (
        "correlate" in found(first, 0.1)[0] if elsewhere else "are others" in found(first, 0.1)[0]
    )
    assert found(make_record(d_prime=3.3).episodes[0], 0.0) == ["d′ recorded 3.00, now 3.30"]


def read(path: Path) -> Record:
    return RecordStore(path.parent).read(path)


def test_a_record_as_written_contradicts_nothing(record: Path) -> None:
    assert contradictions(record, read(record)) == []
    assert badge_of(record, read(record)) == "self-reported"


FORGERIES: dict[str, tuple[Edit, str]] = {
    "d-prime": (lambda c: c["summary"].update(d_prime=9.0), "its d_prime is 9.0"),
    "an-episode": (lambda c: c["episodes"][1]["measures"].update(d_prime=9.0), "its scores say"),
    "hits": (lambda c: c["episodes"][0]["measures"].update(hits=0), "its hits"),
    "time": (lambda c: c["summary"].update(adaptation_seconds=1e-9), "adaptation_seconds"),
    "parameters": (lambda c: c["summary"].update(parameters_added=0), "parameters_added"),
    "fewer-targets": (lambda c: c["episodes"].pop(), "its targets is"),
    "hash": (lambda c: c.update(scores_sha256="0" * 64), "hash differs"),
    "status": (lambda c: c.update(status="failed"), "its status is failed"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_an_edited_record_contradicts_itself(record: Path, name: str) -> None:
    change, saying = FORGERIES[name]
    edit(record, change)
    found = contradictions(record, read(record))
    assert any(saying in each for each in found), found
    assert badge_of(record, read(record)) == "failed verification"
    page = leaderboard_markdown([read(record)], {read(record).identity: "failed verification"})
    assert "| failed verification |" in page


def test_other_scores_contradict_the_figures(record: Path) -> None:
    replace_scores(record, lambda scores: scores.assign(score=scores["present"] - 0.5))
    assert any("d_prime" in each for each in contradictions(record, read(record)))
    record.with_suffix(".parquet").write_bytes(b"PAR1")
    assert "hash" in contradictions(record, read(record))[0]
    record.with_suffix(".parquet").unlink()
    assert "cannot be read" in contradictions(record, read(record))[0]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "high", None])
def test_scores_that_are_no_numbers_contradict_it(record: Path, score: object) -> None:
    replace_scores(
        record,
        lambda scores: scores.assign(
            score=[score, *scores["score"][1:]] if isinstance(score, float) else score
        ),
    )
    assert "scores are" in contradictions(record, read(record))[0]
    assert badge_of(record, read(record)) == "failed verification"


def test_a_true_record_is_verified_and_loses_its_badge_when_edited(record: Path) -> None:
    outcome = attnbench.verify(record, sample=1)
    assert outcome.problems == () and len(outcome.targets) == 1
    assert badge_of(record, read(record)) == "verified"
    edit(record, lambda content: content.update(title="Another"))
    assert badge_of(record, read(record)) == "self-reported"


def test_what_was_never_measured_fails_when_it_is_run_again(record: Path) -> None:
    """Scores, figures and hashes all agree; only running it again tells."""

    def better(scores: pd.DataFrame) -> pd.DataFrame:
        return scores.assign(score=(scores["score"] + scores["present"] * 5).astype("float32"))

    replace_scores(record, better)
    scores = pd.read_parquet(record.with_suffix(".parquet"))

    def change(episode: dict[str, Any]) -> None:
        own = scores[scores["target"] == episode["target"]]
        found = detect(own["score"].to_numpy(), own["present"].to_numpy())
        counts = {"hits": found.counts.hits, "false_alarms": found.counts.false_alarms}
        figures = {
            name: getattr(found, name)
            for name in ("hit_rate", "false_alarm_rate", "d_prime", "criterion", "auc", "d_a")
        }
        episode["measures"].update(counts | figures)

    edit_episodes(record, change)
    assert contradictions(record, read(record)) == []
    outcome = attnbench.verify(record, sample=1)
    assert any("scores are others" in each for each in outcome.problems)
    assert badge_of(record, read(record)) == "failed verification"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`attnbench verify` with arguments: its exit code, and what it printed."""

    def verify(*arguments: object) -> tuple[int | str | None, str]:
        monkeypatch.setattr(sys, "argv", ["attnbench", "verify", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().out

    return verify


def test_the_verb_says_what_held_and_what_did_not(record: Path, run: Run) -> None:
    code, said = run(record, "--sample", "1")
    assert code == 0 and "verified, 1 targets run again" in said, said
    edit(record, lambda content: content["identity"].update(submission_sha256="0" * 64))
    code, said = run(record, "--sample", "1", "--json")
    assert code == 1 and "another version" in json.loads(said)["problems"][0]
    assert run(record.with_name("nothing.json"))[0] == 2


@pytest.mark.parametrize(
    ("others", "said", "badge"),
    [(0.0, "failed verification", "failed verification"), (0.5, "not settled", "self-reported")],
)
def test_a_time_too_short_to_be_true_fails_unless_other_work_may_be_why(
    record: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    others: float,
    said: str,
    badge: str,
) -> None:
    def forge(episode: dict[str, Any]) -> None:
        # Some millionth of a pass.
        episode["cost"].update(contended=False, adaptation_seconds=1e-6, pass_seconds=1.0)

    edit_episodes(record, forge)
    monkeypatch.setattr(verifying, "_TIME_SECONDS", 0.001)
    monkeypatch.setattr(BackgroundLoad, "share", lambda _: others)
    code, printed = run(record, "--sample", "1")
    assert code == 1 and said in printed and "adaptation recorded as 0.00 passes" in printed
    assert ("on an idle machine" in printed) == (others > 0)
    assert badge_of(record, read(record)) == badge


def test_a_verification_beside_a_record_is_not_trusted_blindly(record: Path) -> None:
    path_beside(record).write_text("{}")
    assert badge_of(record, read(record)) == "self-reported"
    path_beside(record).write_bytes(b"x" * (2 << 20))
    assert badge_of(record, read(record)) == "self-reported"
