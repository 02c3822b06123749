"""Records of methods that do not exist, to test how the leaderboard and its site scale.

    python -m benchmarks.made_up_records FOLDER [NUMBER]
    time attnbench leaderboard --records FOLDER --out /dev/null --site SITE

The records are complete and have scores, as those that `attnbench evaluate` writes for `mini`. Each
method has ten seeds of every task. The first one is called `bias_only`, as the control.
"""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from attnbench.records.outcome import scores_table
from attnbench.records.record import (
    Cost,
    Environment,
    EpisodeResult,
    Identity,
    Measures,
    Record,
)
from attnbench.records.store import RecordStore
from attnbench.records.summary import summarise
from attnbench.statistics.detection import detect
from attnbench.tasks import TaskDefinition, list_tasks, load_task

POSITIVES, NEGATIVES = 40, 200


@dataclass(frozen=True)
class Extent:
    """What each method has records of: the tasks, and the numbers of targets and of seeds."""

    tasks: tuple[str, ...] = tuple(
        name for name in list_tasks() if "mini" in load_task(name).tracks
    )
    targets: int = 5
    seeds: int = 10


EXTENT = Extent()


@dataclass(frozen=True)
class Method:
    """A method that does not exist.

    Attributes:
        number: of the method.
        strength: its d'.
        criterion: its criterion c.
        parameters: how many it adds.
        seconds: its median adaptation time.
    """

    number: int
    strength: float
    criterion: float
    parameters: int
    seconds: float


def main(folder: Path, number: int, extent: Extent = EXTENT) -> None:
    """Write this many records into a folder."""
    methods = max(1, number // (len(extent.tasks) * extent.seeds))
    with ProcessPoolExecutor() as pool:
        list(pool.map(write_method, [folder] * methods, range(methods), [extent] * methods))


def write_method(folder: Path, number: int, extent: Extent) -> None:
    """Write all records of one method, drawn with its number as the seed."""
    rng = np.random.default_rng(number)
    strength, criterion = rng.uniform(0, 3), rng.normal(0, 0.4)
    method = Method(
        number=number,
        strength=strength,
        criterion=criterion,
        parameters=int(10 ** rng.uniform(0, 6)),
        seconds=10 ** rng.uniform(-2, 1),
    )
    for task in map(load_task, extent.tasks):
        for seed in range(extent.seeds):
            record, scores = _make_record(method, task, seed, extent.targets, rng)
            RecordStore(folder).save(record, scores)


def _make_record(
    method: Method, task: TaskDefinition, seed: int, targets: int, rng: np.random.Generator
) -> tuple[Record, pa.Table]:
    present = np.arange(POSITIVES + NEGATIVES) < POSITIVES
    episodes, tables = [], []
    for number in range(targets):
        means = np.where(present, method.strength / 2, -method.strength / 2) - method.criterion
        # Records store float32, and their measures must agree with the stored scores.
        scores = rng.normal(means, 1.0).astype(np.float32)
        seconds = method.seconds * rng.uniform(0.8, 1.3)
        cost = Cost(
            parameters_added=method.parameters,
            parameters_changed=0,
            artefact_bytes=4 * method.parameters + 700,
            adaptation_seconds=seconds,
            adaptation_seconds_cold=1.2 * seconds,
            pass_seconds=0.02,
            prediction_seconds=0.2,
        )
        target = f"target {number}"
        images = hashlib.sha256(f"{task.name} {seed} {number}".encode()).hexdigest()
        episodes.append(
            EpisodeResult(
                target=target,
                status="ok",
                images_sha256=images,
                measures=Measures.of(detect(scores, present)),
                cost=cost,
            )
        )
        image_names = [f"{number}/{image}" for image in range(len(scores))]
        tables.append(scores_table(target, image_names, present, scores))
    identity = Identity(
        submission=f"made-up-{method.number:05}" if method.number else "bias_only",
        submission_sha256=hashlib.sha256(f"{method.number}".encode()).hexdigest(),
        task=task.name,
        task_version=task.version,
        task_sha256=task.content_hash("mini"),
        track="mini",
        backbone=task.tracks["mini"].backbones[0],
        backbone_sha256="c" * 64,
        untrained=False,
        seed=seed,
        device="cpu",
        isolation="process",
    )
    versions: dict[str, Any] = dict.fromkeys(
        ("python", "torch", "torchvision", "numpy", "attnbench"), "1.0"
    )
    record = Record(
        identity=identity,
        title=f"Made up, number {method.number}",
        environment=Environment(device_name="a made-up processor", threads=2, **versions),
        created="2026-01-01T00:00:00+00:00",
        status="ok",
        summary=summarise(episodes),
        episodes=tuple(episodes),
        scores_file="",
        scores_sha256="0" * 64,
    )
    return record, pa.concat_tables(tables)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
