"""Records of methods that do not exist, to see how the leaderboard and its site grow.

    python -m benchmarks.made_up_records FOLDER [NUMBER]
    time attnbench leaderboard --records FOLDER --out /dev/null --site SITE

Whole records with scores beside them, as `attnbench evaluate` writes them on `mini`: each
method with ten seeds of every task.
"""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

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

TARGETS, POSITIVES, NEGATIVES, SEEDS = 5, 40, 200, 10


def main(folder: Path, number: int) -> None:
    """Write so many records into a folder."""
    tasks = [load_task(name) for name in list_tasks()]
    methods = max(1, number // (len(tasks) * SEEDS))
    with ProcessPoolExecutor() as pool:
        list(pool.map(write_method, [folder] * methods, range(methods), [tasks] * methods))


def write_method(folder: Path, method: int, tasks: list[TaskDefinition]) -> None:
    """Write all records of one method."""
    rng = np.random.default_rng(method)
    strength, bias = rng.uniform(0, 3), rng.normal(0, 0.4)
    parameters = int(10 ** rng.uniform(0, 6))
    pace = 10 ** rng.uniform(-2, 1)
    for task in tasks:
        for seed in range(SEEDS):
            record, scores = _made_up(method, task, seed, strength, bias, parameters, pace, rng)
            RecordStore(folder).save(record, scores)


def _made_up(
    method: int,
    task: TaskDefinition,
    seed: int,
    strength: float,
    bias: float,
    parameters: int,
    pace: float,
    rng: np.random.Generator,
) -> tuple[Record, pd.DataFrame]:
    present = np.arange(POSITIVES + NEGATIVES) < POSITIVES
    episodes, tables = [], []
    for target in range(TARGETS):
        scores = rng.normal(np.where(present, strength / 2, -strength / 2) - bias, 1.0)
        seconds = pace * rng.uniform(0.8, 1.3)
        cost = Cost(
            parameters_added=parameters,
            parameters_changed=0,
            artefact_bytes=4 * parameters + 700,
            adaptation_seconds=seconds,
            adaptation_seconds_cold=1.2 * seconds,
            pass_seconds=0.02,
            prediction_seconds=0.2,
        )
        name = f"target {target}"
        images = hashlib.sha256(f"{task.name} {seed} {target}".encode()).hexdigest()
        episodes.append(
            EpisodeResult(
                target=name,
                status="ok",
                images_sha256=images,
                measures=Measures.of(detect(scores, present)),
                cost=cost,
            )
        )
        ids = [f"{target}/{number}" for number in range(len(scores))]
        table = {"target": name, "image": ids, "present": present, "score": scores}
        tables.append(pd.DataFrame(table))
    identity = Identity(
        submission=f"made-up-{method:05}",
        submission_sha256=hashlib.sha256(f"{method}".encode()).hexdigest(),
        task=task.name,
        task_version=task.version,
        task_sha256=task.content_hash,
        track="mini",
        backbone=task.tracks["mini"].backbones[0],
        backbone_sha256="c" * 64,
        untrained=False,
        seed=seed,
        device="cpu",
        isolation="process",
    )
    versions = dict.fromkeys(("python", "torch", "torchvision", "numpy", "attnbench"), "1.0")
    record = Record(
        identity=identity,
        title=f"Made up, number {method}",
        environment=Environment(device_name="a made-up processor", threads=2, **versions),
        created="2026-01-01T00:00:00+00:00",
        status="ok",
        summary=summarise(episodes),
        episodes=tuple(episodes),
        scores_file="",
        scores_sha256="0" * 64,
    )
    return record, pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
