"""Detectors beside people: records joined with trials, `compare METHOD people`, and the real trials."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from attnbench.cli.main import app
from attnbench.commands.compare_people import compare_with_people
from attnbench.commands.leaderboard import build_leaderboard
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.people import BesidePeople, ScoredImages, beside_people
from attnbench.leaderboard.people_settings import trials_in_data
from attnbench.records.outcome import scores_table
from attnbench.records.record import Measures, Record
from attnbench.records.store import RecordStore
from attnbench.records.summary import summarise
from attnbench.records.trials import read_trials
from attnbench.statistics.detection import detect
from attnbench.stimuli.opening import open_dataset
from attnbench.tasks import HubSource, load_task
from attnbench.vocabulary import SIXTEEN_CATEGORIES

DATA = Path(os.environ.get("ATTNBENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
KINDS = ("edge", "silhouette", "cue-conflict")
needs_trials = pytest.mark.skipif(
    not all((DATA / kind / "human-trials.csv").is_file() for kind in KINDS),
    reason=f"no trials of people in {DATA}",
)
TARGETS = ("bear", "cat", "dog")
FILES = tuple(f"{category}{number}.png" for category in TARGETS for number in range(8))
CATEGORY_OF = {file: file[: -len("0.png")] for file in FILES}
PEOPLE = 4


def _answers(seed: int) -> NDArray[np.str_]:
    """Answers of four people, `[people, files]`, about a third of them wrong."""
    rng = np.random.default_rng(seed)
    truth = np.array(list(CATEGORY_OF.values()))
    wrong = rng.random((PEOPLE, len(FILES))) < 0.35
    return np.where(wrong, rng.choice(TARGETS, wrong.shape), truth)


def _write_trials(
    path: Path, answers: NDArray[np.str_], shown: float | None = None, *, append: bool = False
) -> Path:
    rows = [] if append else ["subj,object_response,category,imagename,presentation_ms"]
    for person, row in enumerate(answers):
        for file, answer in zip(FILES, row, strict=True):
            name = f"0001_x_{file}"
            rows.append(f"p{person},{answer},{CATEGORY_OF[file]},{name},{shown or ''}")
    with path.open("a" if append else "w", encoding="utf-8") as out:
        out.write("\n".join(rows) + "\n")
    return path


@pytest.fixture
def write(tmp_path: Path, make_record: Callable[..., Record]) -> Callable[..., None]:
    """A function that writes the record of a detector that answers as a person did."""

    def write(name: str, answers: NDArray[np.str_], track: str = "edge") -> None:
        tables, episodes = [], []
        for target in TARGETS:
            present = np.array([file.startswith(target) for file in FILES])
            scores = np.where(answers == target, 1.0, -1.0) + 0.01 * np.arange(len(FILES))
            tables.append(scores_table(target, [f"x/{target}/{f}" for f in FILES], present, scores))
            measures = Measures.of(detect(scores.astype(np.float32), present))
            update = {"target": target, "measures": measures}
            episodes.append(make_record().episodes[0].model_copy(update=update))
        record = make_record(
            submission=name,
            task="people",
            track=track,
            episodes=episodes,
            summary=summarise(episodes),
        )
        RecordStore(tmp_path / "records").save(record, pa.concat_tables(tables))

    return write


def test_a_detector_that_answers_as_person_3_did_agrees_with_person_3(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    answers = _answers(0)
    write("parrot", answers[2])
    trials = _write_trials(tmp_path / "trials.csv", answers)
    (setting,) = compare_with_people(["parrot"], trials=trials, records=tmp_path / "records")
    (comparison,) = setting.comparisons
    parrot = comparison.detectors["parrot"]
    assert parrot.by_person[:, 2] == pytest.approx(1)
    assert comparison.people == ("p0", "p1", "p2", "p3")
    assert (comparison.pictures, comparison.targets) == (len(FILES), len(TARGETS))
    correct = answers == np.array(list(CATEGORY_OF.values()))
    for person in range(PEOPLE):
        expected = _error_consistency(correct[2], correct[person])
        assert parrot.by_person[0, person] == pytest.approx(expected)


def test_presentation_times_are_compared_apart(tmp_path: Path, write: Callable[..., None]) -> None:
    short, long = _answers(1), _answers(2)
    write("parrot", long[0])
    path = _write_trials(tmp_path / "trials.csv", short, 50)
    _write_trials(path, long, 200, append=True)
    (setting,) = compare_with_people(["parrot"], trials=path, records=tmp_path / "records")
    at_50, at_200 = setting.comparisons
    assert (at_50.presentation_ms, at_200.presentation_ms) == (50, 200)
    assert at_200.detectors["parrot"].by_person[:, 0] == pytest.approx(1)
    assert at_50.detectors["parrot"].by_person[0, 0] < 1
    shown = CliRunner().invoke(
        app,
        ["compare", "parrot", "people", "--trials", str(path), "--records", f"{tmp_path}/records"],
    )
    assert shown.exit_code == 0 and "shown for 50 ms" in shown.stdout.replace("\n", " ")


def test_the_threshold_at_peoples_rate_is_moved_for_each_target(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    """A detector with the right order and a wrong threshold agrees once its threshold is moved."""
    answers = _answers(6)
    targets, files = np.repeat(TARGETS, len(FILES)), np.tile(FILES, len(TARGETS))
    present = targets == np.tile(list(CATEGORY_OF.values()), len(TARGETS))
    votes = np.concatenate([(answers == target).sum(axis=0) for target in TARGETS])
    named = ScoredImages(targets, files, present, votes - 9.0)
    trials = read_trials(_write_trials(tmp_path / "trials.csv", answers))
    (comparison,) = beside_people({"never": named}, trials, replicates=10)
    detector = comparison.detectors["never"]
    assert detector.present.value == pytest.approx(0)  # it never says "present"
    assert detector.matched.present.value is not None
    assert detector.matched.present.value > 0.2


def test_compare_prints_people_and_differences_between_methods(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    answers = _answers(3)
    write("parrot", answers[2])
    write("other", _answers(4)[0])
    trials = _write_trials(tmp_path / "trials.csv", answers)
    options = ["--records", str(tmp_path / "records"), "--trials", str(trials)]
    shown = CliRunner().invoke(app, ["compare", "parrot", "other", "people", *options])
    assert shown.exit_code == 0, shown.output
    for text in (
        "people, edge",
        "4 people, 24 pictures",
        "parrot − other =",
        "pooled d′",
        "parrot =",
    ):
        assert text in shown.stdout
    result = CliRunner().invoke(app, ["compare", "parrot", "people", "--json", *options])
    (setting,) = json.loads(result.stdout)["people"]
    (comparison,) = setting["comparisons"]
    own, parrot = comparison["people"], comparison["submissions"]["parrot"]
    assert own["kappa_present"]["value"] < parrot["kappa_present"]["value"] < 1
    assert json.loads(result.stdout)["tracks"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["people"], "name one or several different submissions beside people"),
        (
            ["parrot", "people"],
            "there are no trials of people for people (edge), people (silhouette)",
        ),
        (["parrot", "people", "--trials", "TRIALS"], "name one with --task and --track"),
        (
            ["parrot", "people", "--trials", "OTHERS", "--track", "edge"],
            "has no trial of a picture of the records",
        ),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path,
    write: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.delenv("ATTNBENCH_DATA", raising=False)
    for track in ("edge", "silhouette"):
        write("parrot", _answers(0)[0], track)
    _write_trials(tmp_path / "TRIALS", _answers(0))
    (tmp_path / "OTHERS").write_text("subj,object_response,category,imagename\na,cat,cat,x.png\n")
    words = [str(tmp_path / word) if word.isupper() else word for word in arguments]
    result = CliRunner().invoke(app, ["compare", *words, "--records", str(tmp_path / "records")])
    assert isinstance(result.exception, AttnbenchError) and expected in str(result.exception)


def test_the_page_of_the_task_has_a_row_of_people(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    answers = _answers(5)
    write("parrot", answers[2])
    folder = tmp_path / "data" / "edge"
    folder.mkdir(parents=True)
    _write_trials(folder / "human-trials.csv", answers, 120)
    build_leaderboard([tmp_path / "records"], tmp_path / "data").write_site(tmp_path / "site")
    (page,) = (tmp_path / "site" / "tasks").glob("edge-people-*.html")
    text = page.read_text("utf-8")
    assert '<th scope="row">people</th>' in text and "4 people, 120 ms" in text
    assert "Beside people" in text and "κ present" in text and "shape bias" not in text
    build_leaderboard([tmp_path / "records"]).write_site(tmp_path / "site")
    assert '<th scope="row">people</th>' not in page.read_text("utf-8")


def _stimuli(kind: str) -> pd.DataFrame:
    """The pictures of a kind: `name`, `shape` and `texture` (or the shape again)."""
    table = pq.read_table(DATA / kind / "data")
    columns = {"name": table["name"].to_pylist()}
    for key, column in (("shape", "label"), ("texture", "texture")):
        if column in table.column_names:
            columns[key] = [SIXTEEN_CATEGORIES[code] for code in table[column].to_pylist()]
    return pd.DataFrame(columns)


def _as_person(kind: str, person: int) -> tuple[BesidePeople, pd.DataFrame]:
    """A detector of all sixteen categories that answers as a person did, beside people."""
    stimuli = _stimuli(kind)
    trials = pd.read_csv(DATA / kind / "human-trials.csv", keep_default_na=False)
    trials["name"] = trials["imagename"].str.rpartition("_")[2]
    answers = trials.pivot(index="name", columns="subj", values="object_response")
    answers = answers.loc[stimuli["name"]]
    targets = np.repeat(SIXTEEN_CATEGORIES, len(stimuli))
    given = np.tile(answers.iloc[:, person].to_numpy(str), 16)
    scored = ScoredImages(
        targets,
        np.tile(stimuli["name"].to_numpy(str), 16),
        targets == np.tile(stimuli["shape"].to_numpy(str), 16),
        np.where(given == targets, 1.0, -1.0),
    )
    read = read_trials(DATA / kind / "human-trials.csv")
    (comparison,) = beside_people({"parrot": scored}, read, replicates=20)
    return comparison, answers


@needs_trials
@pytest.mark.parametrize("kind", KINDS)
def test_kappa_on_the_real_trials_is_that_of_an_independent_implementation(kind: str) -> None:
    comparison, answers = _as_person(kind, 2)
    shape = _stimuli(kind)["shape"].to_numpy(str)[:, None]
    correct = answers.to_numpy(str) == shape
    assert comparison.detectors["parrot"].by_person[:, 2] == pytest.approx(1)
    # On present trials, "present" is the right answer: kappa is that of correctness, as published.
    pairs = [
        _error_consistency(correct[:, a], correct[:, b]) for a, b in combinations(range(10), 2)
    ]
    assert comparison.own.present.value == pytest.approx(np.mean(pairs))
    false_alarms = np.stack(
        [(answers.to_numpy(str) == t)[shape[:, 0] != t] for t in SIXTEEN_CATEGORIES]
    ).reshape(-1, 10)
    absent = [cohen_kappa_score(*false_alarms[:, pair].T) for pair in combinations(range(10), 2)]
    assert comparison.own.absent.value == pytest.approx(np.mean(absent))


def _error_consistency(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Kappa by the formula of Geirhos, Meding & Wichmann (2020)."""
    observed, p, q = (first == second).mean(), first.mean(), second.mean()
    expected = p * q + (1 - p) * (1 - q)
    return float((observed - expected) / (1 - expected))


@needs_trials
def test_the_shape_bias_of_a_person_is_that_of_geirhos_and_others() -> None:
    comparison, answers = _as_person("cue-conflict", 4)
    stimuli = _stimuli("cue-conflict")
    conflict = (stimuli["shape"] != stimuli["texture"]).to_numpy()
    expected = []
    for person in range(10):
        given = answers.iloc[:, person].to_numpy(str)[conflict]
        by_shape = (given == stimuli["shape"].to_numpy(str)[conflict]).sum()
        by_texture = (given == stimuli["texture"].to_numpy(str)[conflict]).sum()
        expected.append(by_shape / (by_shape + by_texture))
    own, parrot = comparison.own.bias, comparison.detectors["parrot"].bias
    assert own is not None and own.bias == pytest.approx(np.mean(expected))
    assert parrot is not None and parrot.bias == pytest.approx(expected[4])


@needs_trials
def test_people_are_as_accurate_as_was_counted() -> None:
    for kind, accuracy in zip(KINDS, (0.87, 0.75, 0.78), strict=True):
        trials = read_trials(DATA / kind / "human-trials.csv")
        assert (trials.answer == trials.category).mean() == pytest.approx(accuracy, abs=0.005)


@needs_trials
@pytest.mark.parametrize("kind", KINDS)
def test_every_person_has_answered_every_picture_of_the_task(kind: str) -> None:
    track = load_task("people").tracks[kind]
    assert isinstance(track.test.source, HubSource)
    dataset = open_dataset(track.test.source, DATA)
    names = [dataset.image_name(row).rpartition("/")[2] for row in range(len(dataset.labels))]
    file = trials_in_data("people", kind, DATA)
    assert file is not None
    answers = read_trials(file).about(names).answers()
    assert answers.shape == (10, len(names)) and (answers != "").all()


def test_detectors_of_different_images_are_not_compared(tmp_path: Path) -> None:
    trials = read_trials(_write_trials(tmp_path / "trials.csv", _answers(0)))
    targets, files, present = (
        np.array(["cat"] * 2),
        np.array(FILES[8:16:7]),
        np.array([True, False]),
    )
    one = ScoredImages(targets, files, present, np.zeros(2))
    other = ScoredImages(targets, files[::-1], present, np.zeros(2))
    with pytest.raises(AttnbenchError, match="different test images"):
        beside_people({"one": one, "other": other}, trials)
    with pytest.raises(AttnbenchError, match="each person"):
        beside_people(
            {"one": ScoredImages(targets, files, ~present | present, np.zeros(2))}, trials
        )
