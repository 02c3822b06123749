"""Tasks that adapt on the same images share one adaptation, whose detector is tested on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

import numpy as np
import pytest
from picture_files import write_classes
from torch import Tensor, nn

import attnbench
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.commands.check import noise_episode
from attnbench.errors import AttnbenchError
from attnbench.isolation.confinement import limits_for
from attnbench.judge import template
from attnbench.judge.background_load import BackgroundLoad
from attnbench.judge.evaluator import Evaluator
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.runs import retiming
from attnbench.submission import load_submission

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

BACKBONE = "shipped/digits-cnn"
TARGETS = ("3", "7")

TASK = Template("""
name = "$name"
version = 1
title = "A task"
reference = "none"
description = "Written by a test."

[tracks.mini]
backbones = ["shipped/digits-cnn"]
targets = $targets
timeout = 60

[tracks.mini.adapt]
source = { $adapt }
positives = $positives
negatives = $positives

[tracks.mini.test]
source = { $test }
positives = 6
negatives = 10
generator = { kind = "noise", sigma = $sigma }
""")
DIGITS = {
    "targets": ["3", "7"],
    "adapt": 'kind = "digits", split = "adapt"',
    "test": 'kind = "digits", split = "test"',
}

# Every adaptation gives another detector, so detectors that are equal come from the same one.
UNIQUE = """
    import os
    import torch
    from torch import nn

    class Detector(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network
            self.register_buffer("mark", torch.frombuffer(bytearray(os.urandom(4)), dtype=torch.uint8))

        def forward(self, images):
            {forward}
            return self.network(images)[:, 3]

    def adapt(backbone, pos, neg):
        return Detector(backbone)
"""


class TargetColumn(nn.Module):
    """Returns the backbone's output for the target."""

    def __init__(self, target: int | None) -> None:
        super().__init__()
        self.target = target

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs[:, self.target]


@pytest.fixture
def write_task(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a task on digits, given its name, and the noise that it tests with."""

    def write(name: str, sigma: float, positives: int = 12) -> Path:
        path = tmp_path / f"{name}.toml"
        text = TASK.substitute(DIGITS, name=name, sigma=sigma, positives=positives)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def unique(submission_folder: Callable[[str, str], Path]) -> Path:
    """A submission whose every adaptation gives another detector."""
    return submission_folder("unique", UNIQUE.format(forward=""))


def records_in(folder: Path) -> dict[str, Record]:
    """Return the records in a folder by task."""
    records, problems = RecordStore(folder).load_all()
    assert problems == []
    return {record.identity.task: record for _, record in records}


def artefacts(record: Record) -> list[str | None]:
    return [episode.artefact_sha256 for episode in record.episodes]


@pytest.mark.parametrize("workers", [1, 2])
def test_one_adaptation_serves_all_tasks(
    tmp_path: Path, write_task: Callable[..., Path], unique: Path, workers: int
) -> None:
    tasks = [write_task("clear", 0.0), write_task("noisy", 1.0), write_task("more", 0.0, 14)]
    attnbench.evaluate(unique, tasks=tasks, records=tmp_path / "records", workers=workers)
    found = records_in(tmp_path / "records")
    clear, noisy, more = (found[task] for task in ("clear", "noisy", "more"))
    assert artefacts(clear) == artefacts(noisy)
    for one, other in zip(clear.episodes, noisy.episodes, strict=True):
        assert one.cost and other.cost
        own = {"prediction_seconds"}
        assert one.cost.model_dump(exclude=own) == other.cost.model_dump(exclude=own)
    # It adapts on more images, so it shares nothing.
    assert len({*artefacts(more), *artefacts(clear)}) == 2 * len(TARGETS)


@pytest.mark.parametrize("submission", ["attention", "prototype"])
def test_scores_are_those_of_separate_adaptations(
    tmp_path: Path, write_task: Callable[..., Path], submission: str
) -> None:
    tasks = [write_task("clear", 0.0), write_task("noisy", 1.0)]
    attnbench.evaluate(submission, tasks=tasks, records=tmp_path / "together")
    for task in tasks:
        attnbench.evaluate(submission, tasks=task, records=tmp_path / "apart")
    together, apart = records_in(tmp_path / "together"), records_in(tmp_path / "apart")
    assert together.keys() == apart.keys() == {"clear", "noisy"}
    for (path, _), (other, _) in zip(
        RecordStore(tmp_path / "together").load_all()[0],
        RecordStore(tmp_path / "apart").load_all()[0],
        strict=True,
    ):
        assert attnbench.scores(path).equals(attnbench.scores(other))
    for task, record in together.items():
        assert record.identity == apart[task].identity
        assert artefacts(record) == artefacts(apart[task])


def test_one_process_predicts_for_all_tasks(
    tmp_path: Path,
    write_task: Callable[..., Path],
    submission_folder: Callable[[str, str], Path],
) -> None:
    speaks = submission_folder("speaks", UNIQUE.format(forward="print(os.getpid())"))
    tasks = [write_task("clear", 0.0), write_task("noisy", 1.0)]
    attnbench.evaluate(speaks, tasks=tasks, records=tmp_path / "records")
    clear, noisy = records_in(tmp_path / "records").values()
    for one, other in zip(clear.episodes, noisy.episodes, strict=True):
        processes = [set(episode.printed.split()) for episode in (one, other)]
        assert processes[0] == processes[1] and len(processes[0]) == 1


def test_a_task_that_is_added_later_leaves_the_other_records_as_they_are(
    tmp_path: Path, write_task: Callable[..., Path], unique: Path
) -> None:
    folder, clear, noisy = tmp_path / "records", write_task("clear", 0.0), write_task("noisy", 1.0)
    attnbench.evaluate(unique, tasks=clear, records=folder)
    first = records_in(folder)["clear"]
    # An interrupted run leaves one target of the other task behind.
    attnbench.evaluate(unique, tasks=noisy, targets=["3"], records=folder)
    frame = attnbench.evaluate(unique, tasks=[clear, noisy], records=folder)
    assert frame["status"].tolist() == ["ok", "ok"]
    both = records_in(folder)
    assert both["clear"] == first
    assert [episode.target for episode in both["noisy"].episodes] == list(TARGETS)


def test_a_detector_that_fails_on_one_task_is_scored_on_the_other(
    tmp_path: Path,
    write_task: Callable[..., Path],
    submission_folder: Callable[[str, str], Path],
) -> None:
    refuse = "assert images.std() < 1.5, 'too noisy'"
    fragile = submission_folder("fragile", UNIQUE.format(forward=refuse))
    tasks = [write_task("noisy", 9.0), write_task("clear", 0.0)]
    frame = attnbench.evaluate(fragile, tasks=tasks, records=tmp_path / "records")
    assert frame["status"].tolist() == ["failed", "ok"]
    assert "too noisy" in frame["reason"][0]
    assert len({*artefacts(records_in(tmp_path / "records")["clear"])}) == len(TARGETS)


def test_an_adaptation_that_fails_fails_all_tasks(
    tmp_path: Path,
    write_task: Callable[..., Path],
    submission_folder: Callable[[str, str], Path],
) -> None:
    broken = submission_folder("broken", "def adapt(backbone, pos, neg): return 1 / 0")
    tasks = [write_task("noisy", 1.0), write_task("clear", 0.0)]
    frame = attnbench.evaluate(broken, tasks=tasks, records=tmp_path / "records")
    assert frame["status"].tolist() == ["failed", "failed"]
    assert frame["reason"].str.contains("division by zero").all()


@pytest.mark.usefixtures("cache")
def test_a_damaged_test_picture_of_one_task_leaves_the_other(tmp_path: Path) -> None:
    for number, name in enumerate(("adapt", "sound", "hurt")):
        write_classes(tmp_path / name / "train", {"cat": 10, "dog": 10}, 100 * number)
    damaged = tmp_path / "hurt" / "train" / "cat" / "003.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    source = 'kind = "hub", hub = "nobody/{0}", folder = "{0}", split = "train"'
    tasks = []
    for name in ("sound", "hurt"):
        sources = {"adapt": source.format("adapt"), "test": source.format(name)}
        settings = {"targets": ["cat", "dog"], "sigma": 0, "positives": 4, "name": name}
        tasks.append(tmp_path / f"{name}.toml")
        tasks[-1].write_text(TASK.substitute(settings, **sources), encoding="utf-8")
    with pytest.raises(AttnbenchError, match=r"003\.png"):
        attnbench.evaluate("prototype", tasks=tasks, data=tmp_path, records=tmp_path / "records")
    assert list(records_in(tmp_path / "records")) == ["sound"]


def test_times_that_are_taken_again_are_shared_too(
    tmp_path: Path,
    write_task: Callable[..., Path],
    unique: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = [write_task("clear", 0.0), write_task("noisy", 1.0)]
    monkeypatch.setattr(retiming, "is_quiet", lambda: False)
    monkeypatch.setattr(BackgroundLoad, "is_contended", lambda _: True)
    attnbench.evaluate(unique, tasks=tasks, records=tmp_path / "records")
    before = records_in(tmp_path / "records")
    monkeypatch.setattr(BackgroundLoad, "is_contended", lambda _: False)
    attnbench.evaluate(unique, tasks=tasks, records=tmp_path / "records", timing_only=True)
    after = records_in(tmp_path / "records")
    times = [[e.cost.adaptation_seconds for e in r.episodes if e.cost] for r in after.values()]
    assert times[0] == times[1] and len(times[0]) == len(TARGETS)
    for task, record in after.items():
        for old, new in zip(before[task].episodes, record.episodes, strict=True):
            assert old.cost and new.cost and old.cost.contended and not new.cost.contended
            assert old.measures == new.measures


def test_episodes_with_other_images_to_adapt_on_are_refused() -> None:
    backbone = load(BACKBONE)
    episode = noise_episode(backbone)
    others: Sequence[dict[str, object]] = (
        {"pos": episode.pos + 1},
        {"neg": episode.neg[1:]},
        {"seed": 1},
        {"target": "another"},
        {"label": 5},
    )
    with template.Template("process", limits=limits_for(60.0)) as workers:
        evaluator = Evaluator(backbone, workers, device="cpu", untrained=False)
        submission = load_submission("none")
        for change in others:
            other = replace(episode, **change)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="share no adaptation"):
                evaluator.judge_all(submission, [episode, other], 60.0, cold=False)
        equal = replace(episode, pos=np.array(episode.pos))
        assert len(evaluator.judge_all(submission, [episode, equal], 60.0, cold=False)) == 2


def test_functions_adapt_once_for_all_tasks(write_task: Callable[..., Path]) -> None:
    marks = []

    def adapt(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
        marks.append(len(pos))
        return nn.Sequential(backbone, TargetColumn(backbone.target))

    tasks = [write_task("clear", 0.0), write_task("noisy", 9.0), write_task("more", 0.0, 14)]
    frame = attnbench.evaluate(adapt, tasks=tasks)
    assert marks == [12] * len(TARGETS) + [14] * len(TARGETS)
    assert frame["task"].tolist() == ["clear", "noisy", "more"]
    assert frame["d_a"].nunique() > 1 and (frame["targets"] == len(TARGETS)).all()
