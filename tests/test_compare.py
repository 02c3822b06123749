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
from attnbench.errors import AttnbenchError
from attnbench.records.integrity import read_scores
from attnbench.records.outcome import scores_table
from attnbench.records.record import Record
from attnbench.records.store import RecordStore

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
    backbone_sha256: str = "c" * 64,
) -> None:
    tables = []
    for number, target in enumerate(TARGETS):
        rng = np.random.default_rng([seed, number])
        present = np.arange(120) < 60
        shared = rng.normal(size=120)
        own = np.random.default_rng([seed, number, len(name)]).normal(size=120)
        score = (present - 0.5) * sensitivity + 0.8 * shared + 0.6 * own
        images = [f"{target}{image}" for image in range(120)]
        tables.append(scores_table(target, images, present, score))
    scores = pa.concat_tables(tables)
    episode = make_record().episodes[0]
    record = make_record(
        submission=name,
        seed=seed,
        backbone_sha256=backbone_sha256,
        episodes=[episode.model_copy(update={"target": target}) for target in TARGETS],
    )
    # Records need not keep images in the same order.
    shuffled = np.random.default_rng(len(name)).permutation(scores.num_rows)
    RecordStore(folder).save(record, scores.take(pa.array(shuffled)))


def test_more_sensitive_submission_is_found_to_be_better(tmp_path: Path, write: Write) -> None:
    write("good", 3.0)
    write("poor", 1.0)
    (comparison,) = compare(["good", "poor"], records=tmp_path)
    (pair,) = comparison.pairs
    assert pair.d_prime.significant and pair.d_a.significant and pair.d_prime.estimate > 1
    conclusion = comparison.conclusion
    assert "good is better than poor" in conclusion and "in d_a too" in conclusion
    assert pair.present.kappa is not None and pair.present.images == 300
    (reversed_order,) = compare(["poor", "good"], records=tmp_path)
    assert reversed_order.pairs[0].d_prime.estimate == pytest.approx(-pair.d_prime.estimate)


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
    assert "shipped/digits-cnn" in heading  # a task may have records on several backbones
    assert plot.stat().st_size > 10_000
    as_json = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    (task,) = as_json["tasks"]
    assert task["pairs"][0]["d_prime"]["p_holm"] < 0.05 and "good is better" in task["conclusion"]


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
    heading, d_prime, d_a = (
        next(line for line in lines if text in line)
        for text in ("difference [95 %]", "d′ ", "d_a ")
    )
    assert heading.split()[-5:] == ["%]", "p", "(Holm)", "κ", "(maximum)"]
    number = r"[+-]\d\.\d\d"
    figures = (
        rf"{number} \[{number}, {number}\] +(< )?\d\.\d+  (present|absent ) -?\d\.\d\d \(\d\.\d\d\)"
    )
    assert re.search(figures, d_prime) and re.search(figures, d_a)
    table = "\n".join(lines[: lines.index(d_a) + 1])
    assert all(re.search(rf"(?<!\S){name}(?!\S)", table) for name in names)


def test_many_pairs_are_counted_rather_than_listed(tmp_path: Path, write: Write) -> None:
    names = ["a" * length for length in range(1, 6)]
    for name in names:
        write(name, 3.0 if len(name) == 1 else 1.0)
    (comparison,) = compare(names, records=tmp_path)
    significant = sum(pair.d_prime.significant for pair in comparison.pairs)
    assert significant >= 4 and f"{significant} of 10 pairs differ" in comparison.conclusion


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
