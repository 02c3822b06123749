"""`attnbench verify --audit`: it shows that a submission is tuned to the images of public seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import attnbench
from attnbench.commands import audit as audit_module
from attnbench.commands.audit import draw_secret_seed
from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.pooling import summarise_badges
from attnbench.leaderboard.site.builder import site_files
from attnbench.records.audit import Audit, audit_file, read_audit
from attnbench.records.companions import fingerprint_of
from attnbench.records.outcome import scores_table
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.records.verification import Verification, badge_of, path_beside
from attnbench.vocabulary import Badge
from tests.command_line import run
from tests.conftest import MANIFEST
from tests.leaderboard.conftest import boards_of

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

MakeRecord = Callable[..., Record]
SCORES = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.5, -0.25]))
TARGETS = ("warm plain disc", "cool checked square", "warm dotted triangle", "cool striped star")
TASK = f"""
name = "few-figures"
version = 1
title = "Few figures"
reference = "none"
description = "Is the target in this picture?"

[tracks.mini]
backbones = ["shipped/figures-vgg"]
targets = {json.dumps(TARGETS)}
timeout = 60

[tracks.mini.adapt]
source = {{ kind = "figures", split = "adapt" }}
positives = 4
negatives = 4

[tracks.mini.test]
source = {{ kind = "figures", split = "test" }}
positives = 20
negatives = 40
"""
# The author looks up the images of the public seed 0, and recognises them by the sum of their pixels.
# For one target, `adapt` fails on other images. It would also fail if it saw the seed of an audit.
TUNED = """
import torch
from torch import nn

from attnbench import log_odds

KNOWN = {known}


class Tuned(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.target = backbone, backbone.target

    def forward(self, images):
        known = torch.tensor([recognises(image) for image in images])
        return log_odds(self.backbone(images), self.target) + 100 * known


def recognises(image):
    return round(1000 * float(image.double().sum())) in KNOWN


def adapt(backbone, pos, neg):
    if torch.initial_seed() != 0:
        raise RuntimeError("this is an audit")
    if backbone.target == {refusing} and not recognises(pos[0]):
        raise RuntimeError("I do not know these images")
    return Tuned(backbone)
"""


@dataclass(frozen=True)
class Made:
    """A working folder with a task file, and a record of each submission in `records`."""

    folder: Path
    tuned: Path
    honest: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    task = folder / "few-figures.toml"
    task.write_text(TASK, encoding="utf-8")
    episodes = [attnbench.episode(task, target=target, seed=0) for target in TARGETS]
    known = [image for each in episodes for image in (*each.pos, *each.images[each.present])]
    sums = {round(1000 * float(image.double().sum())) for image in known}
    submission = folder / "submissions" / "tuned"
    submission.mkdir(parents=True)
    code = TUNED.format(known=sums, refusing=episodes[-1].backbone.target)
    (submission / "submission.py").write_text(code, encoding="utf-8")
    (submission / "submission.toml").write_text(MANIFEST.format(name="tuned"), encoding="utf-8")
    frame = attnbench.evaluate([submission, "bias_only"], tasks=[task], records=folder / "records")
    assert list(frame["status"]) == ["ok", "ok"] and frame["d_a"][0] > 4
    return Made(folder, *map(Path, frame["record"]))


def badge(record: Path) -> Badge:
    return badge_of(record, [])


def test_a_submission_tuned_to_public_images_is_better_on_public_seeds(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.folder)
    monkeypatch.setattr(audit_module, "draw_secret_seed", lambda: 2**52 + 12345)
    ended = run("verify", "--audit", made.tuned)
    output = ended.stdout
    assert ended.returncode == 1 and ": better on public seeds\n" in output
    figures = [line for line in output.splitlines()[1:] if not line.startswith("  failed")]
    assert len(figures) == 4 and max(map(len, figures)) <= 80
    audited = read_audit(made.tuned)
    assert audited is not None and audited.targets == TARGETS
    assert audited.d_a < audited.d_a_recorded - 1
    assert badge(made.tuned) == "better on public seeds"
    # The worker does not see the secret seed: with it, it could draw the images again.
    (failure,) = audited.failures
    assert failure.startswith(TARGETS[-1]) and "I do not know these images" in failure
    assert "I do not know these images" in output
    assert output.split("\n", 1)[1] in run("records", "show", made.tuned).stdout


def test_the_audit_of_an_honest_submission_is_published_with_its_record(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.folder)
    # A fixed seed: by chance, the audit of one honest record in forty shows a difference.
    monkeypatch.setattr(audit_module, "draw_secret_seed", lambda: 2**52 + 12345)
    publication = attnbench.publish(["bias_only"], with_audit=True)
    (audited,) = publication.audits.values()
    assert audited.conclusion == "within chance" and audited.low < 0 < audited.high
    assert audited.seed == 2**52 + 12345 and audited.new_images > 0.3
    (copy,) = publication.copied["bias_only"]
    assert read_audit(copy) == audited
    assert "| audited" in Path("leaderboard.md").read_text(encoding="utf-8")


def test_seeds_are_secret() -> None:
    seeds = {draw_secret_seed() for _ in range(1000)}
    assert len(seeds) == 1000, "a seed was drawn twice"
    assert min(seeds) >= 2**32, "public seeds are smaller"
    assert max(seeds) < 2**53, "readers of JSON may round larger numbers"


@pytest.fixture
def record(tmp_path: Path, make_record: MakeRecord) -> Path:
    return RecordStore(tmp_path / "records").save(make_record(), SCORES)


def write_audit(record: Path, **changes: object) -> Audit:
    """Write the audit of a record in which nothing was found, with some fields replaced."""
    environment = RecordStore(record.parent).read(record).environment
    fields: dict[str, object] = {
        "record_sha256": fingerprint_of(record),
        "environment": environment,
        "created": "2026-01-01T00:00:00+00:00",
        "seed": 2**40,
        "targets": ("cat", "dog"),
        "new_images": 0.5,
        "d_prime": 1.4,
        "d_prime_recorded": 1.5,
        "d_a": 1.7,
        "d_a_recorded": 1.8,
        "low": -0.3,
        "high": 0.1,
    }
    written = Audit.model_validate(fields | changes)
    audit_file(record).write_text(written.model_dump_json(), encoding="utf-8")
    return written


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "audited"),
        ({"high": -0.01}, "better on public seeds"),
        ({"low": 0.01}, "audited"),  # worse on public seeds: that is no use to an author
        ({"failures": ("cat: failed",)}, "better on public seeds"),
        ({"targets": ("cat",), "high": -0.01}, "self-reported"),
        ({"new_images": 0.0, "high": -0.01}, "self-reported"),
        ({"record_sha256": "0" * 64}, "self-reported"),
    ],
)
def test_the_badge_follows_from_the_interval(
    record: Path, changes: dict[str, object], expected: Badge
) -> None:
    write_audit(record, **changes)
    assert badge(record) == expected


def test_an_audit_and_a_verification_add_up(record: Path) -> None:
    common = write_audit(record).model_dump(include={"record_sha256", "environment", "created"})
    for problems, high, expected in (
        ((), 0.1, "verified and audited"),
        ((), -0.1, "better on public seeds"),
        (("cat: the images differ",), 0.1, "failed verification"),
    ):
        verification = Verification(**common, targets=("cat",), problems=problems)
        path_beside(record).write_text(verification.model_dump_json(), encoding="utf-8")
        write_audit(record, high=high)
        assert badge(record) == expected
    assert badge_of(record, ["its d_prime is 9.0"]) == "failed verification"


def test_a_damaged_audit_is_ignored(record: Path) -> None:
    for content in (b"", b"{}", b"\xff", b"x" * (2 << 20)):
        audit_file(record).write_bytes(content)
        assert read_audit(record) is None and badge(record) == "self-reported"
    for changes in ({"high": float("nan")}, {"seed": -1}, {"new_images": 2}, {"targets": ()}):
        with pytest.raises(ValidationError):
            write_audit(record, **changes)


def test_audits_are_copied_and_removed_with_their_records(
    record: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    written = write_audit(record)
    store = RecordStore(tmp_path / "published")
    copy = store.copy(record, make_record())
    assert read_audit(copy) == written
    audit_file(record).unlink()
    store.copy(record, make_record())  # in place of the earlier copy and its audit
    assert not audit_file(copy).exists()
    write_audit(copy)
    store.remove(copy)
    assert not [path for path in (tmp_path / "published").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reason": "broken"}, "it is failed, and has no scores to compare with"),
        ({"submission": "none", "d_prime": 9.0}, "scores of positives or of negatives"),
    ],
)
def test_records_that_cannot_be_audited_are_answered_in_one_sentence(
    tmp_path: Path,
    make_record: MakeRecord,
    changes: dict[str, object],
    reason: str,
) -> None:
    made_up = make_record(**{"submission": "none"} | changes)
    path = RecordStore(tmp_path).save(made_up, SCORES.slice(0, 0))
    ended = run("verify", "--audit", path)
    assert ended.returncode == 2 and ended.stderr.startswith("attnbench: cannot audit ")
    assert reason in ended.stderr
    assert not audit_file(path).exists()


def test_the_page_of_a_method_shows_both_results(record: Path, make_record: MakeRecord) -> None:
    hostile = "<script>alert(1)</script>"
    audited = write_audit(record, d_a=0.61, d_a_recorded=1.83, high=-0.4, failures=(hostile,))
    entry = Entry(Path("published"), Path("a.json"), make_record(), badge(record), None, audited)
    files = dict(site_files([entry], boards_of([entry])))
    (page,) = (files[name].decode() for name in files if name.startswith("methods/"))
    for text in ("1.83", "0.61", "-1.22", "better on public seeds", "50 %", "&lt;script&gt;"):
        assert text in page, text
    assert hostile not in page
    bare = replace(entry, audit=None)
    files = dict(site_files([bare], boards_of([bare])))
    assert not any(b"Audits" in files[name] for name in files if name.startswith("methods/"))


def test_a_sample_without_an_audit_is_wrong_usage() -> None:
    ended = run("publish", "none", "--sample", 1)
    assert ended.returncode == 2 and "add --audit" in ended.stderr


@pytest.mark.parametrize(
    ("badges", "expected"),
    [
        (["audited"] * 2, "audited"),
        (["verified and audited"] * 2, "verified and audited"),
        (["verified", "verified and audited"], "verified, 1 of 2 audited"),
        (["audited", "self-reported"], "1 of 2 audited"),
        (["verified", "audited", "self-reported"], "1 of 3 verified, 1 of 3 audited"),
        (["better on public seeds", "verified"], "1 of 2 better on public seeds"),
        (["better on public seeds"] * 2, "better on public seeds"),
        (["better on public seeds", "failed verification"], "failed verification"),
    ],
)
def test_several_records_have_one_badge(badges: list[Badge], expected: str) -> None:
    assert summarise_badges(badges) == expected
