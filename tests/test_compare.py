"""`attnbench compare`: paired differences between records, and the conclusions drawn from them."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from attnbench.cli.main import app
from attnbench.commands.compare import compare
from attnbench.commands.leaderboard import build_leaderboard
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.comparison import PairComparison
from attnbench.records.integrity import read_scores
from attnbench.records.outcome import scores_table
from attnbench.records.record import Measures, Record
from attnbench.records.store import RecordStore
from attnbench.statistics.detection import detect
from attnbench.statistics.joint_means import Estimate

Write = Callable[..., None]


TARGETS = ("a", "b", "c", "d", "e")


@pytest.fixture
def write(tmp_path: Path, make_record: Callable[..., Record]) -> Write:
    """A function that writes the record of a simulated detector into `tmp_path`.

    All detectors share some of the evidence in each image. They differ in their sensitivity.
    """
    return functools.partial(_write, tmp_path, make_record)


def _write(
    folder: Path,
    make_record: Callable[..., Record],
    name: str,
    sensitivity: float,
    *,
    seed: int = 0,
    **identity: str,
) -> None:
    tables, episodes = [], []
    episode = make_record().episodes[0]
    for number, target in enumerate(TARGETS):
        rng = np.random.default_rng([seed, number])
        present = np.arange(120) < 60
        shared = rng.normal(size=120)
        own = np.random.default_rng([seed, number, len(name)]).normal(size=120)
        score = (present - 0.5) * sensitivity + 0.8 * shared + 0.6 * own
        images = [f"{target}{image}" for image in range(120)]
        score = score.astype(np.float32)  # as records keep them
        tables.append(scores_table(target, images, present, score))
        measures = Measures.of(detect(score, present))
        episodes.append(episode.model_copy(update={"target": target, "measures": measures}))
    scores = pa.concat_tables(tables)
    record = make_record(
        submission=name,
        seed=seed,
        **identity,
        episodes=episodes,
    )
    # Records need not keep images in the same order.
    shuffled = np.random.default_rng(len(name)).permutation(scores.num_rows)
    RecordStore(folder).save(record, scores.take(pa.array(shuffled)))


def test_more_sensitive_submission_is_found_to_be_better(tmp_path: Path, write: Write) -> None:
    write("good", 3.0)
    write("poor", 1.0)
    (comparison,) = compare(["good", "poor"], records=tmp_path)
    (pair,) = comparison.pairs
    assert pair.significant and pair.d_a.value > 1 and pair.d_prime.value > 1
    assert comparison.conclusions[0].startswith("good is better than poor (+")
    assert comparison.conclusions[1] == "One comparison, so p needs no correction."
    (setting,) = pair.settings
    assert setting.d_a == pair.d_a  # of the only task
    assert setting.present.kappa is not None and setting.present.images == 300
    (reversed_order,) = compare(["poor", "good"], records=tmp_path)
    assert reversed_order.pairs[0].d_a.value == pytest.approx(-pair.d_a.value)
    assert comparison.d_a["good"] - comparison.d_a["poor"] == pytest.approx(pair.d_a.value)


def test_the_leaderboard_gives_the_same_difference(tmp_path: Path, write: Write) -> None:
    """Joint over the tasks of the control: the others have one more task, and one has more seeds."""
    for task, names in (
        ("imagenet-standard", ("bias_only", "good", "poor")),
        ("alpha-blend", ("bias_only", "good", "poor")),
        ("cifar-ssl", ("good", "poor")),
    ):
        for name in names:
            for seed in range(3 if name == "good" else 2):
                write(name, 3.0 if name == "good" else 1.5, seed=seed, task=task)
    (standings,) = build_leaderboard([tmp_path]).boards
    rows = {row.method.submission: row.placement for row in standings.rows}
    for name in ("good", "poor"):
        (comparison,) = compare([name, "bias_only"], records=tmp_path)
        assert comparison.pairs[0].d_a == rows[name].difference
        assert comparison.pairs[0].d_prime.value == pytest.approx(
            comparison.d_prime[name] - comparison.d_prime["bias_only"], abs=0.2
        )
    assert rows["good"].verdict == "above" and standings.tests == 2
    (others,) = compare(["good", "poor"], records=tmp_path)
    assert [task for task, _ in others.tasks] == ["alpha-blend", "imagenet-standard"]
    (pair,) = others.pairs
    assert [setting.in_mean for setting in pair.settings] == [True, False, True]
    (only,) = compare(["good", "poor"], records=tmp_path, task="cifar-ssl")
    assert only.pairs[0].d_a == pair.settings[1].d_a


def test_what_is_open_needs_more_targets(tmp_path: Path, write: Write) -> None:
    write("one", 2.0)
    write("other", 2.1)
    (comparison,) = compare(["one", "other"], records=tmp_path)
    (pair,) = comparison.pairs
    assert not pair.significant and pair.more_targets is not None
    (conclusion, _) = comparison.conclusions
    assert f"about {pair.more_targets} more targets would show" in conclusion


@pytest.mark.parametrize(
    ("d_a", "d_prime", "p", "more", "expected"),
    [
        (0.1, 0.1, 0.7, 70, "a and b could not be distinguished (+0.10 [-0.40, +0.60] d_a, "
         "p = 0.700; about 70 more targets would show a difference of this size)"),
        (-1.0, -1.0, 0.01, None, "b is better than a (-1.00 [-1.50, -0.50] d_a, p = 0.010)"),
        (0.0, 1.0, 0.9, None, "a and b could not be distinguished (+0.00 [-0.50, +0.50] d_a, "
         "p = 0.900; more targets would hardly show so small a difference), although their d′ "
         "differs by +1.00 [+0.50, +1.50], which a shift of the criterion may explain"),
        (0.5, 0.5, None, None, "a and b differ by +0.50 d_a, which a single target cannot "
         "generalise to others"),
    ],
)  # fmt: skip
def test_a_conclusion_tells_sensitivity_from_a_shift_of_the_criterion(
    d_a: float, d_prime: float, p: float | None, more: int | None, expected: str
) -> None:
    def estimate(value: float) -> Estimate:
        return Estimate(value, None if p is None else (value - 0.5, value + 0.5))

    pair = PairComparison("a", "b", estimate(d_prime), estimate(d_a), p, p, more, ())
    assert pair.conclusion == expected


def test_records_of_different_seeds_cannot_be_compared(tmp_path: Path, write: Write) -> None:
    write("one", 2.0, seed=0)
    write("two", 2.0, seed=1)
    with pytest.raises(AttnbenchError, match="no episode in common"):
        compare(["one", "two"], records=tmp_path)


def test_two_networks_of_one_name_are_not_compared(tmp_path: Path, write: Write) -> None:
    write("one", 2.0)
    write("two", 2.0, backbone_sha256="d" * 64)
    with pytest.raises(AttnbenchError, match="same versions of task and backbone"):
        compare(["one", "two"], records=tmp_path)


@pytest.mark.parametrize("names", [["one"], ["one", "one"], ["one", "nobody"]])
def test_too_few_names_or_records_are_an_error(
    tmp_path: Path, write: Write, names: list[str]
) -> None:
    write("one", 2.0)
    with pytest.raises(AttnbenchError):
        compare(names, records=tmp_path)


def test_command_prints_a_table_and_draws_a_plot(tmp_path: Path, write: Write) -> None:
    write("good", 3.0)
    write("poor", 1.0)
    plot = tmp_path / "differences.png"
    arguments = ["compare", "good", "poor", "--records", str(tmp_path), "--plot", str(plot)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert "good is better than poor" in " ".join(result.output.split())
    heading, *_ = result.output.splitlines()
    assert heading == "mini: noisy-mnist, 5 targets, 5 episodes"
    assert plot.stat().st_size > 10_000
    as_json = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    (track,) = as_json["tracks"]
    assert track["pairs"][0]["p_holm"] < 0.05 and "good is better" in track["conclusions"][0]


LONG = "spatial_attention_as_published"


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("names", [("good", "poor"), ("feature_similarity", "poor"), (LONG, "ia3")])
def test_the_table_fits_the_terminal(
    tmp_path: Path, write: Write, names: tuple[str, str], width: int
) -> None:
    for name in names:
        write(name, 2.0)
    arguments = ["compare", *names, "--records", str(tmp_path)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": str(width)})
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= width
    title, heading = (
        next(line for line in lines if text in line) for text in (" − ", "d_a [95 %]")
    )
    figures = next(line for line in lines if re.search(r"[+-]\d\.\d\d \[[+-]", line))
    assert heading.split()[-6:] == ["[95", "%]", "κ", "present", "κ", "absent"]
    number = r"[+-]\d\.\d\d"
    kappa = r"-?\d\.\d\d \(\d\.\d\d\)"
    assert re.search(rf"{number}  {number} \[{number}, {number}\] +{kappa} +{kappa}", figures)
    assert all(re.search(rf"(?<!\S){name}(?!\S)", title) for name in names)


def test_many_pairs_are_counted_rather_than_listed(tmp_path: Path, write: Write) -> None:
    names = ["a" * length for length in range(1, 6)]
    for name in names:
        write(name, 3.0 if len(name) == 1 else 1.0)
    (comparison,) = compare(names, records=tmp_path)
    significant = sum(pair.significant for pair in comparison.pairs)
    counted, corrected = comparison.conclusions
    assert significant >= 4 and counted.startswith(f"{significant} of 10 pairs differ")
    assert corrected == "p is corrected for 10 comparisons (Holm); intervals are not."


def test_scores_that_lack_a_target_are_an_error(tmp_path: Path, write: Write) -> None:
    write("one", 2.0)
    write("two", 2.0)
    store = RecordStore(tmp_path)
    path, record = next(
        pair for pair in store.load_all()[0] if pair[1].identity.submission == "two"
    )
    scores = read_scores(path, record)
    kept = np.array(scores["target"].to_pylist()) != "c"
    store.save(record, scores.filter(pa.array(kept)))
    with pytest.raises(
        AttnbenchError, match="scores of positives or of negatives of c are missing"
    ):
        compare(["one", "two"], records=tmp_path)


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(
    tmp_path: Path, write: Write, on_a_terminal: bool
) -> None:
    write("good", 3.0)
    write("poor", 1.0)
    command = [sys.executable, "-m", "attnbench", "compare", "good", "poor", "--json"]
    terminal, stderr = os.openpty()
    done = subprocess.run(
        [*command, "--records", tmp_path],
        stdout=subprocess.PIPE,
        stderr=stderr if on_a_terminal else subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
        check=True,
    )
    os.close(stderr)
    assert json.loads(done.stdout)["submissions"] == ["good", "poor"]
    if on_a_terminal:
        shown = os.read(terminal, 100_000).decode()
        assert "reading records" in shown and "comparing on" in shown
    else:
        assert done.stderr == b""
    os.close(terminal)
