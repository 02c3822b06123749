"""One's own records and the published ones: compared, published, listed and removed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import attnbench
from attnbench.backbones import load
from attnbench.commands.leaderboard import build_leaderboard
from attnbench.commands.published_comparison import compare_with_published
from attnbench.errors import AttnbenchError
from attnbench.records.outcome import scores_table
from attnbench.records.record import Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.resources import submissions_folder
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.tasks import load_task
from tests.command_line import run as command

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

ROOT = Path(__file__).parents[1]
MakeRecord = Callable[..., Record]
SCORES = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.5, -0.25]))


def with_scores(*scores: float) -> pa.Table:
    return SCORES.set_column(3, "score", pa.array(scores, pa.float32()))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the record of a real run in `records`."""
    folder = tmp_path_factory.mktemp("evaluated")
    attnbench.evaluate(["none"], tasks=["noisy-mnist"], records=folder / "records")
    return folder


@pytest.fixture
def here(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a copy of that record."""
    shutil.copytree(evaluated / "records", tmp_path / "records")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_says_how_its_scores_compare_with_the_published_ones(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    own, published = RecordStore(tmp_path / "own"), RecordStore(tmp_path / "published")
    path = own.save(make_record(), SCORES)
    assert compare_with_published([path], tmp_path / "published") == ""
    published.save(make_record(), SCORES)
    d_prime = make_record().summary.d_prime
    assert (
        compare_with_published([path], tmp_path / "published")
        == f"d′ {d_prime:.2f}, same to the bit"
    )
    published.save(make_record(submission_sha256="d" * 64), with_scores(1.5, -0.5))
    assert compare_with_published([path], tmp_path / "published").endswith(
        "scores differ by at most 0.25 (made with another version of the submission)"
    )
    published.save(make_record(), SCORES.set_column(1, "image", pa.array(["1", "3"])))
    assert "the test images differ" in compare_with_published([path], tmp_path / "published")
    # Several records are summed up in one line. Isolation makes no difference.
    published.save(make_record(), with_scores(2.5, -0.25))
    published.save(make_record(seed=1), SCORES)
    again = own.save(make_record(seed=1, isolation="bwrap"), SCORES)
    assert compare_with_published([path, again], tmp_path / "published") == (
        "same to the bit in 1 of 2 records, scores differ by at most 1 in 1 of 2 records"
    )


def test_published_records_never_stand_in_for_a_run_and_are_never_written(here: Path) -> None:
    (here / "records").rename(here / "published")
    before = {path: path.read_bytes() for path in (here / "published").rglob("*.*")}
    with pytest.raises(AttnbenchError, match="a run does not write"):
        attnbench.evaluate(["none"], tasks=["noisy-mnist"], records=Path("published"))
    done = command("evaluate", "none", "--task", "noisy-mnist")
    assert done.returncode == 0 and "reusing" not in done.stderr
    assert list((here / "records").glob("mini/noisy-mnist/none@*.json"))
    ((_, record),) = RecordStore(here / "records").load_all()[0]
    d_prime = record.summary.d_prime
    assert f"published: d′ {d_prime:.2f}, same to the bit" in done.stdout
    assert before == {path: path.read_bytes() for path in (here / "published").rglob("*.*")}


@pytest.mark.parametrize("task", ["imagenet-standard", "alpha-blend", "imagenet-a", "cifar-ssl"])
def test_figures_are_drawn_as_when_the_published_records_were_made(task: str) -> None:
    file = next((ROOT / "published" / "mini" / task).glob("prototype@*.json"))
    record = Record.model_validate_json(file.read_bytes())
    track = load_task(task).tracks["mini"]
    backbone = load(record.identity.backbone)
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    for episode in record.episodes[::10]:
        found = stimuli.fingerprint(episode.target, record.identity.seed)
        assert found == episode.images_sha256


def test_compare_reads_own_records_before_published_ones(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    published, own = RecordStore(Path("published")), RecordStore(Path("records"))
    both = pa.concat_tables(
        [SCORES, scores_table("dog", ["1", "2"], np.array([True, False]), np.array([1.0, -1.0]))]
    )
    published.save(make_record(submission="one"), both)
    published.save(make_record(submission="two"), both)
    (comparison,) = attnbench.compare(["one", "two"])
    assert comparison.folders == {"one": "published", "two": "published"}
    # An own version of `one` takes the place of the published one, seeds and all.
    published.save(make_record(submission="one", seed=1), both)
    published.save(make_record(submission="two", seed=1), both)
    assert attnbench.compare(["one", "two"])[0].episodes == 4
    wrong = both.set_column(3, "score", pa.array([-1.0, 1.0, -1.0, 1.0], pa.float32()))
    own.save(make_record(submission="one", submission_sha256="e" * 64), wrong)
    (comparison,) = attnbench.compare(["one", "two"])
    assert comparison.folders == {"one": "records", "two": "published"}
    assert comparison.episodes == 2 and comparison.d_prime["one"] < 0 < comparison.d_prime["two"]
    assert attnbench.compare(["one", "two"], records=Path("published"))[0].episodes == 4
    done = command("compare", "one", "two")
    assert "From records: one." in done.stdout and "From published: two." in done.stdout
    with pytest.raises(AttnbenchError, match="did you mean two"):
        attnbench.compare(["one", "twoo"])


def test_the_page_shows_published_records_and_the_site_also_ones_own(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    RecordStore(Path("published")).save(make_record(submission="shown"), SCORES)
    alone = build_leaderboard([Path("published")])
    RecordStore(Path("records")).save(make_record(submission="shown"), SCORES)  # adds nothing
    RecordStore(Path("records")).save(make_record(submission="mine"), SCORES)
    done = command("leaderboard", "--site", "site", "--export", "tables")
    assert done.returncode == 0, done.stderr
    assert Path("leaderboard.md").read_bytes() == alone.page and b"mine" not in alone.page
    assert command("leaderboard", "--check").returncode == 0
    index = Path("site/index.html").read_text()
    assert index.count('mine</a> <span class="quiet">(own)</span>') >= 2
    assert "shown</a> <span" not in index and "shown</a>" in index
    (page,) = Path("site/methods").glob("mine*.html")
    assert "not published" in page.read_text()
    assert "attnbench verify records/mini/noisy-mnist/mine@" in page.read_text()
    exported = Path("tables/results.csv").read_text()
    assert "records/mini/noisy-mnist/mine@" in exported and "published/mini/" in exported
    # Without published records there is nothing to mark.
    shutil.rmtree("published")
    assert command("leaderboard", "--site", "site").returncode == 0
    assert "(own)" not in Path("site/index.html").read_text()
    assert "mine" in Path("leaderboard.md").read_text()


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_publishing_copies_records_and_rebuilds_the_leaderboard(here: Path) -> None:
    (path,) = (here / "records").glob("mini/noisy-mnist/none@*.json")
    publication = attnbench.publish(["none"])
    (copied,) = publication.copied["none"]
    assert not publication.in_git and not publication.replaced and publication.listed == 1
    assert copied.read_bytes() == path.read_bytes()
    store = RecordStore(Path("published"))
    assert read_scores(copied, store.read(copied)).num_rows == 4600
    assert "none" in Path("leaderboard.md").read_text()
    again = command("publish", "none")
    assert again.returncode == 0, again.stderr
    assert "1 record copied to published" in again.stdout and "earlier" not in again.stdout
    copied.write_text(copied.read_text() + "\n")
    assert attnbench.publish(["none"]).replaced == [copied]
    assert command("leaderboard", "--check").returncode == 0


def test_only_committed_work_is_published(here: Path) -> None:
    git("init", "-q")
    Path(".gitignore").write_text("/records/\n")
    git("add", ".gitignore")
    with pytest.raises(AttnbenchError, match=r"not committed: \.gitignore"):
        attnbench.publish(["none"])
    assert not Path("published").exists()
    git("commit", "-qm", "A commit")
    assert attnbench.publish(["none"]).in_git
    attnbench.publish(["none"])  # what it writes itself does not count
    Path("draft.py").touch()
    attnbench.publish(["none"])  # a new file elsewhere is somebody's draft
    shutil.copytree(submissions_folder() / "none", "submissions/none")
    with pytest.raises(AttnbenchError, match=r"not committed: submissions/none/"):
        attnbench.publish(["submissions/none"])


def test_a_file_of_the_submission_that_git_ignores_must_be_committed_too(here: Path) -> None:
    """It is a part of what was measured, so nobody could run it without the file."""
    shutil.copytree(submissions_folder() / "none", "submissions/none")
    Path("submissions/none/table.bin").write_bytes(b"numbers")
    Path(".gitignore").write_text("/records/\n*.bin\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "A commit")
    with pytest.raises(
        AttnbenchError, match=r"not committed: submissions/none/table\.bin\. Commit"
    ):
        attnbench.publish(["submissions/none"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c["summary"].update(d_prime=9.0), "its d_prime is 9.0"),
        (lambda c: c["environment"].update(attnbench="0.0.1"), "made by attnbench 0.0.1"),
        (lambda c: c["identity"].update(submission_sha256="a" * 64), "version of the submission"),
        (lambda c: c["identity"].update(task_sha256="a" * 64), "version of the task"),
        (lambda c: c["identity"].update(backbone_sha256="a" * 64), "version of the backbone"),
        (lambda c: c["identity"].update(untrained=True), "untrained"),
    ],
)
def test_records_with_a_problem_are_not_published(
    here: Path, change: Callable[[dict[str, dict[str, object]]], None], problem: str
) -> None:
    (path,) = (here / "records").glob("mini/noisy-mnist/none@*.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    store = RecordStore(here / "records")
    place = store.path_of(store.read(path).identity)
    path.with_suffix(".parquet").rename(place.with_suffix(".parquet"))
    path.rename(place)
    with pytest.raises(AttnbenchError, match=problem):
        attnbench.publish(["none"])
    assert not Path("published").exists() and not Path("leaderboard.md").exists()


def test_the_template_of_a_manifest_is_not_published(here: Path) -> None:
    attnbench.new("mine")
    with pytest.raises(AttnbenchError, match=r"submission\.toml: replace 'Your Name'"):
        attnbench.publish(["mine"])


def test_publishing_without_records_says_how_to_make_them(here: Path) -> None:
    done = command("publish", "attention")
    assert done.returncode == 2 and "attnbench evaluate" in done.stderr


def test_records_are_listed_and_removed_by_what_they_are_of(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = RecordStore(Path("records"))
    for name in ("attention", "mine"):
        for seed in (0, 1):
            store.save(make_record(submission=name, seed=seed), SCORES)
    store.save(make_record(submission="mine", seed=2, reason="broken"), SCORES.slice(0, 0))
    listed = command("records", environment={"COLUMNS": "80"}).stdout
    assert "5 records" in listed and "failed" in listed
    # The shipped submission `attention` is another one. Of `mine`, no other version is known.
    assert listed.count("*") == 2 and max(map(len, listed.splitlines())) <= 80
    rows = command("records", "list", "mine", "--seed", "1", "--json").stdout.splitlines()
    assert [(row["submission"], row["seed"]) for row in map(json.loads, rows)] == [("mine", 1)]
    paths = command("records", "list", "--status", "failed", "--paths").stdout.split()
    assert paths == [str(store.path_of(make_record(submission="mine", seed=2).identity))]
    typo = command("records", "list", "mien")
    assert typo.returncode == 2 and "did you mean mine" in typo.stderr

    assert command("records", "remove").returncode == 2  # not everything by mistake
    asked = command("records", "remove", "mine", typed="n\n")
    assert asked.returncode == 1 and len(list(store.paths())) == 5
    assert command("records", "remove", "--outdated", "--yes").returncode == 0
    assert [path.name.split("@")[0] for path in store.paths()] == ["mine"] * 3
    assert command("records", "remove", "mine", "--yes").returncode == 0
    assert not [path for path in Path("records").rglob("*") if path.is_file()]
