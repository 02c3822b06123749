"""A picture of a public data set that is damaged: its episodes do not run, and all others do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from picture_files import write_classes, write_picture

import attnbench
from attnbench.engines.engine import CompletedJob, UnusableImages
from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.runs.existing_records import ExistingRecords
from attnbench.runs.planning import Plan
from attnbench.runs.progress import Progress
from attnbench.runs.record_writer import RecordWriter
from attnbench.tasks import load_task

pytestmark = pytest.mark.usefixtures("cache", "quick_fork_servers")

TASK = """
name = "sight"
version = 1
title = "Pets"
description = "Written by a test."
reference = "none"

[tracks.own]
backbones = ["shipped/digits-cnn"]
targets = ["cat", "dog"]
timeout = 60

[tracks.own.adapt]
source = { kind = "hub", hub = "nobody/pets", folder = "pets", split = "train" }
positives = 4
negatives = 4

[tracks.own.test]
source = { kind = "hub", hub = "nobody/pets", folder = "pets", split = "test" }
positives = 6
negatives = 4
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_other_episodes_run_and_are_kept(tmp_path: Path, workers: int) -> None:
    # All cats are test pictures of the target cat, and nearly none of the target dog.
    write_classes(tmp_path / "data" / "pets" / "train", {"cat": 6, "dog": 6, "rabbit": 60})
    write_classes(tmp_path / "data" / "pets" / "test", {"cat": 6, "dog": 6, "rabbit": 60}, 500)
    damaged = tmp_path / "data" / "pets" / "test" / "cat" / "003.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:200])
    (tmp_path / "sight.toml").write_text(TASK, encoding="utf-8")
    folder = tmp_path / "records"

    def evaluate() -> list[str]:
        frame = attnbench.evaluate(
            ["last_layer", "prototype"],
            tasks=[tmp_path / "sight.toml"],
            data=tmp_path / "data",
            records=folder,
            workers=workers,
        )
        return list(frame["status"])

    with pytest.raises(AttnbenchError) as refusal:
        evaluate()
    message = str(refusal.value)
    assert "test/cat/003.png" in message and message.count("003.png") == 1
    assert "last_layer on sight, prototype on sight" in message
    store = RecordStore(folder)
    assert store.load_all()[0] == []
    kept = sorted(folder.rglob("*.arrow"))
    assert len(kept) == 2  # both submissions on the target dog
    times = [path.stat().st_mtime_ns for path in kept]
    with pytest.raises(AttnbenchError, match=r"003\.png"):
        evaluate()
    assert [path.stat().st_mtime_ns for path in kept] == times  # they did not run again
    write_picture(damaged, 10_000)
    assert evaluate() == ["ok", "ok"]


def test_a_record_that_cannot_be_written_is_released_for_other_runs(
    tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    store = RecordStore(tmp_path)
    plan = Plan(
        submission=None,  # type: ignore[arg-type]
        track=load_task("noisy-mnist").tracks["mini"],
        backbone="shipped/digits-cnn",
        targets=("cat",),
        timeout=1.0,
        identity=make_record().identity,
    )
    progress = Progress([plan.identity], (), lambda event: None)
    existing = ExistingRecords(store, [plan], fresh=False, retry_failed=True)
    with RecordWriter(store, existing, {}, progress, keep_going=False) as writer:
        jobs = writer.jobs([plan], wait=False)
        writer.write(CompletedJob(job, [UnusableImages("damaged")]) for job in jobs)
        assert writer.unusable == {plan.identity: ["damaged"]}
        with store.claim(plan.identity, wait=False) as is_free:
            assert is_free
