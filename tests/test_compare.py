"""`attnbench compare`: from records to paired differences, and what it says of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from attnbench.cli.main import app
from attnbench.commands.compare import compare
from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
from attnbench.records.store import RecordStore

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, make_record: Callable[..., Record]) -> Write:
    """Writes the record of a made-up detector: some evidence that all share, and a criterion."""
    return functools.partial(_write, tmp_path, make_record)


def _write(
    folder: Path,
    make_record: Callable[..., Record],
    name: str,
    sensitivity: float,
    *,
    seed: int = 0,
) -> None:
    frames = []
    for number, target in enumerate(("a", "b", "c", "d", "e")):
        rng = np.random.default_rng([seed, number])
        present = np.arange(120) < 60
        shared = rng.normal(size=120)
        own = np.random.default_rng([seed, number, len(name)]).normal(size=120)
        score = (present - 0.5) * sensitivity + 0.8 * shared + 0.6 * own
        ids = [f"{target}{image}" for image in range(120)]
        frames.append(
            pd.DataFrame({"target": target, "image": ids, "present": present, "score": score})
        )
    scores = pd.concat(frames, ignore_index=True)
    made = make_record(submission=name, seed=seed)
    episodes = [
        made.episodes[0].model_copy(update={"target": target})
        for target in ("a", "b", "c", "d", "e")
    ]
    record = make_record(submission=name, seed=seed, episodes=episodes)
    RecordStore(folder).save(record, scores.sample(frac=1, random_state=1))


def test_the_better_one_is_found(tmp_path: Path, write: Write) -> None:
    write("good", 3.0)
    write("poor", 1.0)
    (found,) = compare(["good", "poor"], records=tmp_path)
    (pair,) = found.pairs
    assert pair.d_prime.significant and pair.d_a.significant and pair.d_prime.estimate > 1
    assert "good is better than poor" in found.conclusion and "in d_a too" in found.conclusion
    assert pair.present.kappa is not None and pair.present.images == 300
    (back,) = compare(["poor", "good"], records=tmp_path)
    assert back.pairs[0].d_prime.estimate == pytest.approx(-pair.d_prime.estimate)


def test_records_of_other_seeds_are_not_compared(tmp_path: Path, write: Write) -> None:
    write("one", 2.0, seed=0)
    write("two", 2.0, seed=1)
    with pytest.raises(AttnbenchError, match="no episode in common"):
        compare(["one", "two"], records=tmp_path)


@pytest.mark.parametrize("names", [["one"], ["one", "one"], ["one", "nobody"]])
def test_what_cannot_be_compared_is_said(tmp_path: Path, write: Write, names: list[str]) -> None:
    write("one", 2.0)
    with pytest.raises(AttnbenchError):
        compare(names, records=tmp_path)


def test_the_command_prints_and_draws(tmp_path: Path, write: Write) -> None:
    write("good", 3.0)
    write("poor", 1.0)
    picture = tmp_path / "differences.png"
    line = ["compare", "good", "poor", "--records", str(tmp_path), "--plot", str(picture)]
    shown = CliRunner().invoke(app, line, env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    assert "good is better than poor" in " ".join(shown.output.split())
    table, _ = shown.output.split("On ", 1)
    assert "shipped/digits-cnn" in table  # a task may be there on several backbones
    assert max(map(len, shown.output.splitlines())) <= 80
    assert picture.stat().st_size > 10_000
    said = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
    (task,) = said["tasks"]
    assert task["pairs"][0]["d_prime"]["p_holm"] < 0.05 and "good is better" in task["conclusion"]
